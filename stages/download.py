"""Fetch the weights and the corpus: `python -m stages.download`."""

from pathlib import Path

from stages import BUILD, run


def main() -> None:
    from yourbert.config.params import read_params
    from yourbert.core.storage import read_json
    from yourbert.download.download import download

    params, plan = read_params(), read_json(BUILD / "plan.json")
    download(
        model=params.model,
        corpus=params.corpus,
        wanted=plan["wanted"],
        limits=plan["limits"],
        bundled=Path("data"),
        base=BUILD / "base",
        texts=BUILD / "corpus",
    )


if __name__ == "__main__":
    run(main)
