"""Addresses of bytes, and memory of our own in huge pages. The one place where Python meets pointers."""

from __future__ import annotations

import ctypes
import weakref
from typing import Final

from appliance.engine.errors import EngineRefused


class _PyBuffer(ctypes.Structure):
    """The C structure behind a memoryview (the stable buffer protocol)."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_PyBuffer)]


class Held:
    """The address of a buffer's bytes, read-only ones too; the buffer stays where it is for as long as this lives."""

    def __init__(self, view: memoryview) -> None:
        taken = _PyBuffer()
        _get(view, ctypes.byref(taken), 0)  # 0: one contiguous run of bytes, or BufferError
        self.address: Final[int] = taken.buf or 0
        self.bytes: Final[int] = taken.len
        weakref.finalize(self, _release, ctypes.byref(taken))


class HugeMemory:
    """Zeroed bytes of our own, in huge pages where the system has them. Raises `EngineRefused` for want of it."""

    def __init__(self, kernels: ctypes.CDLL, size: int) -> None:
        address = kernels.fixed_memory_new(size)
        if not address:
            raise EngineRefused("engine.memory", expected=f"{size} bytes for weights", got="no memory from the system")
        self.address: Final[int] = address
        self._array = (ctypes.c_ubyte * size).from_address(address)
        weakref.finalize(self._array, kernels.fixed_memory_free, address, size)

    @property
    def view(self) -> memoryview:
        """Keeps the memory alive by itself."""
        return memoryview(self._array).cast("B")
