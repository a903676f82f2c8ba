"""Read every parameter and the local data before anything is replaced: `python -m stages.check`."""

from pathlib import Path

from stages import BUILD, run


def main() -> None:
    from yourbert.check import check
    from yourbert.params import read_params
    from yourbert.storage import write_json

    write_json(BUILD / "plan.json", check(read_params(), bundled=Path("data")))


if __name__ == "__main__":
    run(main)
