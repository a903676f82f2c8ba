"""Tailor a model that goes on from another: `python -m stages.chain <chain> <seed>`."""

from stages import BUILD, METRICS, PLOTS, run


def main(chain: str, seed: str) -> None:
    from yourbert.launch import in_ranks

    in_ranks(train, lambda params: params.ranks)(chain, seed)


def train(chain: str, seed: str) -> None:
    from yourbert.params import read_params
    from yourbert.tailor import tailor

    params = read_params()
    (block,) = (one for one in params.chains if one.name == chain)
    tailor(
        name=chain,
        mixture=block,
        settings=params.training(chain),
        runtime=params.runtime(params.ranks),
        seed=int(seed),
        encoder=BUILD / "models" / block.init / seed,
        pretrained=BUILD / "encoder",
        tokens=BUILD / "tokens",
        out=BUILD / "models" / chain / seed,
        curve=PLOTS / "curves" / chain / f"{seed}.csv",
        cost=METRICS / "cost" / chain / f"{seed}.json",
    )


if __name__ == "__main__":
    run(main)
