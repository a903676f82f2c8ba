"""Train the encoder on the tasks' own text, or pass it through: `python -m stages.pretrain`."""

from stages import BUILD, METRICS, run


def main() -> None:
    from yourbert.runtime.launch import in_ranks

    in_ranks(train, lambda params: params.num_processes if params.pretrain.enabled else 1)()


def train() -> None:
    from yourbert.config.params import read_params
    from yourbert.pretraining.pretrain import pretrain

    params = read_params()
    pretrain(
        settings=params.pretrain,
        schedule=params.pretraining(),
        runtime=params.runtime(params.num_processes),
        seed=params.pretrain.seed,
        base=BUILD / "base",
        tokens=BUILD / "tokens",
        out=BUILD / "encoder",
        metrics=METRICS / "pretrain.json",
        cost=METRICS / "cost" / "pretrain.json",
    )


if __name__ == "__main__":
    run(main)
