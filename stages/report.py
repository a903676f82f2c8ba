"""Say what serves each task best, with evidence: `python -m stages.report`."""

from pathlib import Path

from stages import BUILD, METRICS, run


def main() -> None:
    from yourbert.overlap import overlaps
    from yourbert.params import read_params
    from yourbert.report.markdown import write_report

    params = read_params()
    write_report(
        params,
        metrics=METRICS,
        predictions=BUILD / "predictions",
        tokens=BUILD / "tokens",
        out=Path("report"),
        summary=METRICS / "summary.json",
        overlaps=overlaps([BUILD / "tokens" / task for task in params.tasks]),
    )


if __name__ == "__main__":
    run(main)
