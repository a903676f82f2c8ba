"""The difficulty of each training row, by which `curriculum: difficulty` orders the first epoch.

Difficulty is the error of a linear probe on the vectors of the untrained encoder, for a row left out of the fit
(Weinshall et al. 2018, "Curriculum learning by transfer learning"). It is known before the first step, so the batches
still depend only on the seed and the rows.

Shapes: R rows, F features of a row, K outputs of the probe.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yourbert.core.tasks import Task

Floats = npt.NDArray[np.float64]
RIDGE = 1e-2  # penalty, relative to the mean square of a feature: a small task has fewer rows than features


def probe_errors(task: Task, features_RF: npt.NDArray[np.floating], labels_R: npt.NDArray[np.number]) -> Floats:
    """The squared leave-one-out error of ridge regression for each row, [R]; classes are one-hot targets.

    One fit is enough: the leave-one-out residual is the residual of the full fit divided by (1 - leverage).
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
