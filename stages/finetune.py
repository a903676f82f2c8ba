"""Fine-tune one model: `python -m stages.finetune <model> <seed>`."""

from stages import BUILD, METRICS, PLOTS, run


def main(name: str, seed: str) -> None:
    from yourbert.runtime.launch import in_ranks

    in_ranks(train, lambda params: params.num_processes)(name, seed)


def train(name: str, seed: str) -> None:
    from yourbert.config.params import read_params
    from yourbert.finetuning.finetune import finetune

    params = read_params()
    init = params.init_of(name)
    finetune(
        name=name,
        mixture=params.mixture(name),
        settings=params.training(name),
        runtime=params.runtime(params.num_processes),
        seed=int(seed),
        encoder=BUILD / "models" / init / seed if init else BUILD / "encoder",
        pretrained=BUILD / "encoder",
        tokens=BUILD / "tokens",
        out=BUILD / "models" / name / seed,
        curve=PLOTS / "curves" / name / f"{seed}.csv",
        cost=METRICS / "cost" / name / f"{seed}.json",
    )


if __name__ == "__main__":
    run(main)
