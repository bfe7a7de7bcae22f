"""reconjax: how far learning by reconstruction is misaligned with a task, and which noise mends it.

The closed forms of "How Learning by Reconstruction Produces Uninformative Features for Perception"
(Balestriero and LeCun, ICML 2024) in JAX. `__init__.pyi` lists the names, and docs/architecture.md
says what is in each room.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
