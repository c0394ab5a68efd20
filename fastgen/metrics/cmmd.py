"""CMMD: the MMD of normalised embeddings."""

from __future__ import annotations

from fastgen import estimators
from fastgen.estimators import KernelSums
from fastgen.kernels import Gaussian
from fastgen.pairwise import two_samples
from fastgen.progress import ProgressLike
from fastgen.results import MMD
from fastgen.session import Session
from fastgen.sums import kernel_sums

#: The kernel of the paper, for rows of norm 1.
KERNEL = Gaussian(10.0)

#: What the paper multiplies MMD^2 by.
SCALE = 1000.0


def cmmd(
    *,
    real: object,
    fake: object,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> MMD:
    """Compute CMMD: 1000 times the biased MMD^2 of rows of norm 1, Gaussian kernel, bandwidth 10.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference embeddings: float16, float32, float64 or integers, in CPU memory or on a GPU, or
        the path of a file. Every row is divided by its Euclidean norm first, so none may be zero.
    fake : array of shape (m, d)
        Generated embeddings, as `real`.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device object, optional
        Where to compute: "cpu", "cuda", "cuda:1" or "cuda:all" (every GPU). Default: where the
        arrays are. Arrays in CPU memory are copied to the GPU that is named; "cuda" is the arrays'
        own GPU, else the current one.
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the inputs, in bytes or as "4GB"; on a GPU, of its memory.
        Default: no limit.

    Returns
    -------
    MMD
        Value and standard error times 1000; no p-value.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, a row is
        zero, or another option is out of bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    With u and v the normalised rows, ``1000 (mean k(u_i, u_j) + mean k(v_i, v_j) - 2 mean k(u_i,
    v_j))``, ``k(u, v) = exp(-|u-v|^2 / 200)`` and rows paired with themselves included [1]_. All
    kernel values lie between 0.98 and 1, and float32 sums of them keep few digits of the
    difference; here ``k - 1`` is summed, which has the same difference. The standard error is that
    of the unbiased estimate (see `fastgen.mmd`). The paper embeds images with CLIP ViT-L/14 at 336
    pixels; the number means little for other features.

    References
    ----------
    .. [1] S. Jayasumana et al., "Rethinking FID: Towards a better evaluation metric for image
       generation", CVPR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    >>> round(fastgen.cmmd(real=real, fake=fake).value, 3)
    19.9
    """
    with Session(
        "cmmd", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        rows, others = two_samples(session, "real", real, "fake", fake, 1)
        (sums,) = kernel_sums(session, rows, others, [KERNEL], normalise=True)
        return summarise(sums)


def summarise(sums: KernelSums) -> MMD:
    """Reduce the sums of the full samples to the metric.

    Parameters
    ----------
    sums : KernelSums
        Of normalised rows.

    Returns
    -------
    MMD
        Scaled.
    """
    return MMD(
        value=SCALE * float(estimators.biased(sums)[0]),
        standard_error=SCALE * float(estimators.standard_error(sums)[0]),
        p_value=None,
        n=sums.xx.shape[1],
        m=sums.yy.shape[1],
    )
