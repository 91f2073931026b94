"""Where the tasks of `benchmark accuracy` run: in this process, or on a Ray cluster.

Both yield the rows of one job after the other in the order of the jobs, so that the CSV is the same.
"""

from collections.abc import Iterator

from keras_tinytrain.benchmark.jobs import Job, Settings
from keras_tinytrain.benchmark.runner import Runner

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}  # read when TensorFlow starts


def run_local(settings: Settings, jobs: list[Job]) -> Iterator[list[dict]]:
    """Rows of each job, from this process."""
    yield from map(Runner(settings).run, jobs)


def run_ray(settings: Settings, jobs: list[Job], *, address: str | None = None) -> Iterator[list[dict]]:
    """Rows of each job from a Ray cluster, one worker with one CPU for every CPU that it has.

    Args:
        settings: files that they name must be found at the same path on every node.
        address: of a running cluster; None joins the one that Ray finds, or starts one on this machine.

    Raises:
        ImportError: Ray is not installed.
        ValueError, OSError: raised by a worker.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise ImportError("--engine ray needs Ray, which is not installed: pip install keras-tinytrain[ray]") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
    try:
        count = max(1, min(len(jobs), int(ray.cluster_resources()["CPU"])))
        worker = ray.remote(num_cpus=1, runtime_env={"env_vars": ONE_THREAD})(Runner)
        pool = ActorPool([worker.remote(settings) for _ in range(count)])
        yield from pool.map(lambda actor, job: actor.run.remote(job), jobs)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    finally:
        if started:
            ray.shutdown()
