"""Check one task's rows and turn them into word pieces: `python -m stages.tokenize <task>`."""

from stages import BUILD, METRICS, run


def main(task: str) -> None:
    from yourbert.config.params import read_params
    from yourbert.core.storage import write_json
    from yourbert.tokens.tokenize_task import tokenize_task

    params = read_params()
    accounting = tokenize_task(
        task,
        params.tasks[task].data,
        corpus=BUILD / "corpus",
        base=BUILD / "base",
        out=BUILD / "tokens" / task,
        num_threads=params.num_threads,
    )
    write_json(METRICS / "data" / f"{task}.json", accounting)


if __name__ == "__main__":
    run(main)
