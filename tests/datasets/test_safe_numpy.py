import builtins
import io
import os
import pickle
import re

import numpy as np
import pytest

from keras_mimo.datasets.safe_numpy import load_object_array
from keras_mimo.datasets.safe_numpy import load_pickle

RECONSTRUCT, _, _ = np.ones(1).__reduce__()

VALUES = [
    None,
    True,
    7,
    -(10**30),
    2.5,
    "text é",
    b"bytes \xff",
    [1, [2, "three"]],
    (1, (2.0, "three")),
    {"a": 1, 2: [np.arange(3)], ("k", 1): None},
    np.arange(6, dtype="int32").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">f8"),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array(["ab", "é"]),
    np.array([b"ab", b"c"]),
    np.array(3.0),
    np.zeros((0, 4), "float16"),
    np.array([1, "two", None], object),
    np.float64(1.5),
    np.int64(3),
    np.bool_(True),
    np.str_("text"),
    np.dtype("float32"),
]


class Call:
    """Pickles as a call of `function`, followed by `__setstate__(state)`."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args, state)

    def __reduce__(self):
        return self.reduced


def object_array(content, shape=()):
    array = np.empty(shape, object)
    array[(0,) * len(shape)] = content
    return array


def save(path, content):
    np.save(path, object_array(content))
    return path


def save_pickle(path, pickled, shape=()):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|O", "fortran_order": False, "shape": shape}
    )
    path.write_bytes(file.getvalue() + pickled)
    return path


def forged_array(dtype, content):
    state = (1, (1,), dtype, False, content)
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)


def assert_same(value, expected, writeable=True):
    """With `writeable=None`, arrays may or may not be written to."""
    assert type(value) is type(expected)
    if isinstance(expected, (list, tuple)):
        assert len(value) == len(expected)
        for item, expected_item in zip(value, expected, strict=True):
            assert_same(item, expected_item, writeable)
    elif isinstance(expected, dict):
        assert list(value) == list(expected)
        for key in expected:
            assert_same(value[key], expected[key], writeable)
    elif isinstance(expected, np.ndarray):
        assert value.dtype == expected.dtype
        assert value.shape == expected.shape
        assert value.flags.f_contiguous == expected.flags.f_contiguous
        assert value.flags.writeable or writeable is None
        if expected.dtype == object:
            assert_same(list(value.flat), list(expected.flat), writeable)
        else:
            np.testing.assert_array_equal(value, expected)
    else:
        assert value == expected


@pytest.fixture
def path(tmp_path):
    return tmp_path / "array.npy"


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_round_trip(path, value):
    loaded = load_object_array(save(path, value))
    assert loaded.dtype == object
    assert loaded.shape == ()
    assert_same(loaded.item(), value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_round_trip_of_all_values_in_two_dimensions(path, order):
    array = np.empty((2, len(VALUES)), object, order)
    for row in range(2):
        for column, value in enumerate(VALUES):
            array[row, column] = value
    np.save(path, array)
    assert_same(load_object_array(str(path)), array)


def test_empty_array(path):
    np.save(path, np.empty((0, 3), object))
    assert_same(load_object_array(path), np.empty((0, 3), object))


def renamed(pickled, protocol, core):
    """A pickle as the NumPy writes it whose modules are in `core`."""
    written = b"numpy._core" if b"numpy._core" in pickled else b"numpy.core"
    for module in (b".multiarray", b".numeric"):
        name, new_name = written + module, core + module
        if protocol > 3:
            name = bytes([len(name)]) + name
            new_name = bytes([len(new_name)]) + new_name
        pickled = pickled.replace(name, new_name)
    # A frame states its length, which the new name would change.
    return pickled[:2] + pickled[11:] if protocol > 3 else pickled


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_pickles_of_numpy_1_and_2(path, protocol, core):
    content = {"x": np.arange(3.0), "y": np.float32(2), "n": [1]}
    pickled = renamed(
        pickle.dumps(object_array(content), protocol), protocol, core
    )
    assert core in pickled
    loaded = load_object_array(save_pickle(path, pickled))
    assert_same(loaded.item(), content)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_whole_pickles_of_numpy_1_and_2(path, protocol, core):
    content = dict(enumerate(VALUES))
    content["axes"] = np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1)
    pickled = renamed(pickle.dumps(content, protocol), protocol, core)
    assert core in pickled
    path.write_bytes(pickled)
    assert_same(load_pickle(path), content, writeable=None)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_large_arrays_of_a_pickle_are_not_copied(path, protocol):
    array = np.arange(1e5).reshape(10, -1)
    path.write_bytes(pickle.dumps({"x": array}, protocol))
    loaded = load_pickle(path)["x"]
    np.testing.assert_array_equal(loaded, array)
    assert isinstance(loaded.base, (bytes, bytearray))


def test_frozen_arrays_of_protocol_5_can_be_written_to(path):
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    pickled = pickle.dumps(object_array([frozen]), 5)
    (loaded,) = load_object_array(save_pickle(path, pickled)).item()
    loaded[0] = 7


@pytest.mark.parametrize(
    "content",
    [
        # Out-of-band, a persistent one, an extension.
        b"\x80\x05\x97.",
        b"\x80\x04\x8c\x01aQ.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_what_lies_outside_of_a_pickle_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match=re.escape(str(path))):
        load_pickle(path)


@pytest.mark.parametrize("dtype", ["O", "M8[s]", "V8"])
def test_forged_buffers_are_refused(path, dtype):
    from_buffer, _ = np.ones(1).__reduce_ex__(5)
    call = Call(from_buffer, b"A" * 8, np.dtype(dtype), (1,), "C")
    path.write_bytes(pickle.dumps(call, 5))
    with pytest.raises(pickle.UnpicklingError, match=r"forged|dtype '[MV]8'"):
        load_pickle(path)


@pytest.mark.parametrize("shape", [(9,), (-1, 1), ("a",), 2**62])
def test_buffers_that_do_not_fit_are_an_error(path, shape):
    from_buffer, _ = np.ones(1).__reduce_ex__(5)
    call = Call(from_buffer, b"A" * 8, np.dtype("f8"), shape, "C")
    path.write_bytes(pickle.dumps(call, 5))
    with pytest.raises(pickle.UnpicklingError, match=re.escape(str(path))):
        load_pickle(path)


def test_shared_and_cyclic_values_stay_so(path):
    shared = np.ones(2)
    cycle = [shared, shared, (shared,)]
    cycle.append(cycle)
    loaded = load_object_array(save(path, cycle)).item()
    assert loaded[0] is loaded[1]
    assert loaded[0] is loaded[2][0]
    assert loaded[3] is loaded
    np.testing.assert_array_equal(loaded[0], shared)


@pytest.mark.parametrize("depth", ["array", "dict", "dtype"])
def test_os_system_is_refused_by_name_and_not_run(path, tmp_path, depth):
    trace = tmp_path / "trace"
    call = Call(os.system, f"touch {trace}")
    content = {
        "array": call,
        "dict": {"x": [np.ones(2), {"y": call}]},
        "dtype": forged_array(call, b""),
    }
    save(path, content[depth])
    with pytest.raises(pickle.UnpicklingError) as error:
        load_object_array(path)
    assert f"`{os.system.__module__}.system`" in str(error.value)
    assert str(path) in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (builtins.eval, ("1 / 0",)),
        (builtins.getattr, (1, "real")),
        (np.load, ("x.npy",)),
        (np.frombuffer, (b"ab",)),
        (np.matrix, ([1],)),
        (io.BytesIO, ()),
        (complex, (1, 2)),
    ],
)
def test_other_calls_are_refused_by_name(path, function, args):
    save(path, Call(function, *args))
    name = f"`{function.__module__}.{function.__qualname__}`"
    with pytest.raises(pickle.UnpicklingError) as error:
        load_object_array(path)
    assert name in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        b"cnumpy\ndtype.mro\n.",
        b"cnumpy.f2py\nmain\n.",
        b"cnumpy.core.multiarray\nfrombuffer\n.",
        b"(S'id'\nios\nsystem\n.",
    ],
)
def test_other_names_are_refused(path, pickled):
    save_pickle(path, pickled)
    with pytest.raises(pickle.UnpicklingError, match=r"it holds `\w+\."):
        load_object_array(path)


@pytest.mark.parametrize("kind", ["array", "flagless array", "scalar"])
def test_forged_pointers_are_refused(path, kind):
    dtype = np.dtype("O")
    flagless = (3, "|", None, None, None, -1, -1, 0)
    pointer = b"A" * 8
    content = {
        "array": forged_array(dtype, pointer),
        "flagless array": forged_array(
            Call(dtype.__reduce__()[0], *dtype.__reduce__()[1], state=flagless),
            pointer,
        ),
        "scalar": Call(np.float32(1).__reduce__()[0], dtype, pointer),
    }
    save(path, content[kind])
    with pytest.raises(pickle.UnpicklingError, match="forged objects"):
        load_object_array(path)


@pytest.mark.parametrize(
    ("dtype", "content"),
    [("f8", [1.0]), ("f8", b"short"), ("f8", None), ("O", [1, 2])],
)
def test_content_that_does_not_fit_is_an_error(path, dtype, content):
    save(path, forged_array(np.dtype(dtype), content))
    with pytest.raises(pickle.UnpicklingError, match=re.escape(str(path))):
        load_object_array(path)


@pytest.mark.parametrize(
    "dtype", [[("a", "O")], [("a", "f4"), ("b", "i4")], "M8[s]", "V8"]
)
def test_other_dtypes_are_refused_by_name(path, dtype):
    save(path, np.zeros(1, dtype))
    with pytest.raises(pickle.UnpicklingError, match=r"dtype '[VM]8'"):
        load_object_array(path)


@pytest.mark.parametrize("content", [np.ndarray, np.dtype, RECONSTRUCT])
def test_functions_and_classes_are_refused(path, content):
    save(path, [content])
    with pytest.raises(pickle.UnpicklingError, match="function or a class"):
        load_object_array(path)


def test_a_file_cannot_change_what_its_names_stand_for(path):
    save_pickle(path, b"cnumpy\ndtype\n}S'call'\nI1\nsb.")
    with pytest.raises(pickle.UnpicklingError, match="changes what it names"):
        load_object_array(path)
    value = np.ones(2)
    assert_same(load_object_array(save(path, value)).item(), value)


@pytest.mark.parametrize("encoding", ["zlib_codec", "utf-8", "rot13"])
def test_other_encodings_are_refused(path, encoding):
    pickled = f"c_codecs\nencode\n(Va\nV{encoding}\ntR.".encode()
    save_pickle(path, pickled)
    with pytest.raises(pickle.UnpicklingError, match=f"'{encoding}'"):
        load_object_array(path)


@pytest.mark.parametrize("pickled", [b"", b"N.", b"]."])
def test_header_without_its_array_is_an_error(path, pickled):
    save_pickle(path, pickled)
    with pytest.raises(pickle.UnpicklingError, match=re.escape(str(path))):
        load_object_array(path)


def test_shape_that_is_not_that_of_the_header_is_an_error(path):
    save_pickle(path, pickle.dumps(np.empty(3, object), 4), shape=(2,))
    with pytest.raises(pickle.UnpicklingError, match=r"shape \(2,\)"):
        load_object_array(path)


def test_every_truncation_is_an_error(path):
    whole = save(path, {"x": np.arange(3.0), "y": ["a", 1]}).read_bytes()
    header = len(save_pickle(path, b"").read_bytes())
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        expected = ValueError if size < header else pickle.UnpicklingError
        with pytest.raises(expected, match=re.escape(str(path))):
            load_object_array(path)


def test_no_damaged_byte_has_another_exception(path):
    whole = save(path, {"x": np.arange(3.0), "y": ["a", 1]}).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        try:
            load_object_array(path)
        except (ValueError, pickle.UnpicklingError) as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("array", [np.ones(2), np.zeros(2, [("a", "O")])])
def test_other_arrays_are_an_error(path, array):
    np.save(path, array)
    with pytest.raises(ValueError, match="an object array") as error:
        load_object_array(path)
    assert str(array.dtype) in str(error.value)
    assert str(path) in str(error.value)


def test_other_files_are_an_error(path):
    path.write_text("a, b\n1, 2\n")
    with pytest.raises(ValueError, match=r"to be a `\.npy` file"):
        load_object_array(path)
    with pytest.raises(FileNotFoundError):
        load_object_array(path.with_name("absent.npy"))
