"""Joins the processes of a run, on one machine or on several."""

import contextlib
import socket

import jax


def join(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes that the arguments or the cluster's environment name.

  A single process joins alone: otherwise SIGTERM would kill the run instead of
  ending it with a checkpoint.

  Args:
    coordinator: HOST:PORT, where process 0 listens; None: as the cluster says.
    num_processes: how many there are, with `coordinator`.
    process_id: which one this is, with `coordinator`.

  Raises:
    OSError: if they do not find each other within JAX's five minutes.
  """
  if coordinator is not None:
    _join_at(coordinator, num_processes, process_id)
    return
  try:
    jax.distributed.initialize()
  except RuntimeError as error:
    raise OSError(
      f'The processes of this job have not found each other: {error}'
    ) from error
  except ValueError:  # No cluster found.
    with socket.socket() as s:
      # Held until JAX listens, or another run could be given the same port.
      # JAX's own socket has this option too, so that both can be bound to it.
      s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
      s.bind(('127.0.0.1', 0))
      _join_at(f'127.0.0.1:{s.getsockname()[1]}', 1, 0)


def _join_at(
  coordinator: str, num_processes: int | None, process_id: int | None
) -> None:
  host, _, port = coordinator.rpartition(':')
  bind = None
  # Process 0 listens on that interface alone. If the address is another
  # machine's, which forwards to this one, it listens on all interfaces.
  with contextlib.suppress(OSError), socket.socket() as s:
    s.bind((host, 0))
    bind = f'{s.getsockname()[0]}:{port}'
  try:
    jax.distributed.initialize(
      coordinator, num_processes, process_id, coordinator_bind_address=bind
    )
  except (RuntimeError, ValueError) as error:
    raise OSError(
      f'Process {process_id} of {num_processes} found no others at'
      f' {coordinator}: {error}'
    ) from error
