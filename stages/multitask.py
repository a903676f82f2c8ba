"""Tailor one shared model to the tasks of a mixture: `python -m stages.multitask <mixture> <seed>`."""

from stages import BUILD, METRICS, PLOTS, run


def main(mixture: str, seed: str) -> None:
    from yourbert.launch import in_ranks

    in_ranks(train, lambda params: params.ranks)(mixture, seed)


def train(mixture: str, seed: str) -> None:
    from yourbert.params import read_params
    from yourbert.tailor import tailor

    params = read_params()
    tailor(
        name=mixture,
        mixture=params.mixtures[mixture],
        settings=params.training(mixture),
        runtime=params.runtime(params.ranks),
        seed=int(seed),
        encoder=BUILD / "encoder",
        tokens=BUILD / "tokens",
        out=BUILD / "models" / mixture / seed,
        curve=PLOTS / "curves" / mixture / f"{seed}.csv",
        cost=METRICS / "cost" / mixture / f"{seed}.json",
    )


if __name__ == "__main__":
    run(main)
