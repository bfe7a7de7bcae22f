"""How tutorials show the pictures that their code has written."""

import base64
from pathlib import Path


def image(path: str) -> str:
    """The PNG as HTML that needs no file beside it."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return f'<img alt="{Path(path).stem}" src="data:image/png;base64,{data}">'
