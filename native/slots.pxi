# Records are classes with slots: each attribute is a pointer at a fixed place in the object, which native code reads and
# writes there. An object so made is what the class itself makes of the same values.

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

cdef extern from *:
    """
    #include "structmember.h"
    /* Where a slot lies, by its descriptor; -1 when it is none. */
    static Py_ssize_t slot_place(PyObject *descriptor) {
        if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return -1;
        PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
        return member->type == T_OBJECT_EX ? member->offset : -1;
    }
    #define SLOT(object, place) (*(PyObject **)((char *)(object) + (place)))
    """
    Py_ssize_t slot_place(object descriptor)
    PyObject* SLOT(PyObject* record, Py_ssize_t place) nogil

cdef extern from "Python.h":
    object PyType_GenericAlloc(type cls, Py_ssize_t items)

cdef enum:
    MOST_SLOTS = 32


cdef class Shape:
    """The slots of a class of records, in the order of its attributes. TypeError for one that has others, or too many."""

    cdef readonly type cls
    cdef readonly tuple names
    cdef Py_ssize_t size, least      # those after the first `least` are not written where they are 0 up to the last
    cdef Py_ssize_t[MOST_SLOTS] places

    def __init__(self, type cls not None, tuple names not None):
        cdef Py_ssize_t i
        if len(names) > MOST_SLOTS:
            raise TypeError(f"{cls.__name__} has {len(names)} attributes; at most {MOST_SLOTS} are allowed")
        self.cls, self.names, self.size, self.least = cls, names, len(names), MOST_SLOTS
        for i in range(self.size):
            self.places[i] = slot_place(getattr(cls, names[i]))
            if self.places[i] < 0:
                raise TypeError(f"{cls.__name__}.{names[i]} is no slot")

    cdef inline object get(self, record, Py_ssize_t i):
        cdef PyObject* found = SLOT(<PyObject*>record, self.places[i])
        if found == NULL:
            raise AttributeError(f"{self.cls.__name__}.{self.names[i]} is not set")
        return <object>found

    cdef inline void set(self, record, Py_ssize_t i, value) noexcept:
        """Of an object that was just made, once."""
        Py_INCREF(value)
        (<PyObject**>(<char*><PyObject*>record + self.places[i]))[0] = <PyObject*>value

    cdef inline object new(self):
        return PyType_GenericAlloc(self.cls, 0)
