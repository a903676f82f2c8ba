"""Say what serves each task best, with evidence: `python -m stages.report`."""

from pathlib import Path

from stages import BUILD, METRICS, PLOTS, run


def main() -> None:
    from yourbert.config.params import read_params
    from yourbert.corpus.leakage import cross_task_leakage
    from yourbert.report.markdown import write_report
    from yourbert.report.page.render import write_page

    params, out = read_params(), Path("report")
    shared = cross_task_leakage([BUILD / "tokens" / task for task in params.tasks])
    gathered, figures = write_report(
        params,
        metrics=METRICS,
        predictions=BUILD / "predictions",
        tokens=BUILD / "tokens",
        out=out,
        summary=METRICS / "summary.json",
        overlaps=shared,
    )
    write_page(
        gathered,
        figures,
        params,
        shared,
        corpus=BUILD / "corpus",
        curves=PLOTS / "curves",
        predictions=BUILD / "predictions",
        out=out / "index.html",
    )


if __name__ == "__main__":
    run(main)
