"""Read every parameter and the local data before anything is replaced: `python -m stages.check`."""

from pathlib import Path

from stages import BUILD, run


def main() -> None:
    from yourbert.config.params import read_params
    from yourbert.core.storage import write_json
    from yourbert.corpus.check import check

    params = read_params()
    if params.device == "cuda":
        # Imports torch, so it is checked only if a GPU is requested.
        from yourbert.runtime.machine import find_device

        find_device(params.device, params.num_processes)
    write_json(BUILD / "plan.json", check(params, bundled=Path("data")))


if __name__ == "__main__":
    run(main)
