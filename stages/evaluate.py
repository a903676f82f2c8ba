"""Score one trained model on dev and test: `python -m stages.evaluate <task or mixture> <seed>`."""

from stages import BUILD, METRICS, PLOTS, run


def main(name: str, seed: str) -> None:
    from yourbert.config.params import read_params
    from yourbert.evaluation.evaluate import evaluate

    params = read_params()
    evaluate(
        model=BUILD / "models" / name / seed,
        tokens=BUILD / "tokens",
        settings=params.evaluate,
        runtime=params.runtime(),
        predictions=BUILD / "predictions" / name / seed,
        metrics=METRICS / "runs" / name / f"{seed}.json",
        confusion=PLOTS / "confusion" / name / f"{seed}.csv",
    )


if __name__ == "__main__":
    run(main)
