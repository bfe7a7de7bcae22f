# Before SciPy: it says how long the threads of SciPy's OpenBLAS spin.
import reconjax  # noqa: F401
