"""How hard each training row is, before anything is learnt: what a curriculum orders the rows by.

"short_first" takes a row's tokens. "easy_first" asks a linear probe on the vectors of the encoder as it comes: how far
off it is on a row that it was not fitted to (Weinshall et al. 2018, "Curriculum learning by transfer learning"). Both
are known before the first step, so that batches still follow from the seed and the rows alone.

Shapes: R rows, F features of a row, K outputs of the probe.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yourbert.core.tasks import Task

Floats = npt.NDArray[np.float64]
RIDGE = 1e-2  # of the mean square of a feature: vectors have hundreds of features, small tasks few rows


def probe_errors(task: Task, features_RF: npt.NDArray[np.floating], labels_R: npt.NDArray[np.number]) -> Floats:
    """The squared error of ridge regression on each row, fitted to all the others; classes as one column each.

    Leaving a row out needs no second fit: its error is that of the whole fit over 1 minus its leverage.
    """
    x_RF = np.asarray(features_RF, np.float64)
    x_RF = np.concatenate([x_RF - x_RF.mean(axis=0), np.ones((len(x_RF), 1))], axis=1)
    y_R = np.asarray(labels_R)
    y_RK = np.eye(len(task.labels))[y_R.astype(np.int64)] if task.labels else y_R.astype(np.float64)[:, None]
    gram_FF = x_RF.T @ x_RF
    gram_FF[np.diag_indices(len(gram_FF) - 1)] += RIDGE * np.trace(gram_FF[:-1, :-1]) / (len(gram_FF) - 1)
    solved_FR = np.linalg.solve(gram_FF, x_RF.T)
    leverage_R = np.einsum("rf,fr->r", x_RF, solved_FR)
    residual_RK = y_RK - x_RF @ (solved_FR @ y_RK)
    errors_R: Floats = (residual_RK**2).sum(axis=1) / (1 - leverage_R) ** 2
    return errors_R
