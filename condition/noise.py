"""Other libraries' messages that tell a person nothing: only those named here, everything else is heard.

Put in place by `import condition`, before bitsandbytes and torchao, which speak while they are imported.
"""

from __future__ import annotations

import logging

_NOISE = {
    # its own product in place of one that it would download: nothing to be done about, and slower only
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward from kernels-community",
    # what it does then is right: checkpoints are ordered by their numbers
    "transformers.trainer_utils": "mtime may not be reliable on this filesystem",
    # once a layer, for what int8 products always do
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
    # kernels for GPUs of one kind, in a wheel for all machines
    "torchao": "Failed to load ",
    # for the authors of torchao
    "torch.utils._pytree": "%s is an Enum subclass and is now natively supported",
}


class _Without(logging.Filter):
    """Lets every message pass but those that begin so."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self.beginning = beginning

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self.beginning)


def hush() -> None:
    """Leave out the messages named above. Called again, it does nothing more."""
    for name, beginning in _NOISE.items():
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Without) for f in logger.filters):
            logger.addFilter(_Without(beginning))
