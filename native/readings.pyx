# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reports of readings, hundreds in a transaction: those that are plain, which are nearly all. What is not, and whatever is
wrong, is left to the rules of `gridtokenx.market.readings`.

Plain is a report whose every reading is its window's first, of a household's meter, within its capacity, reported by one
who may, before the deadline.
"""

from libc.string cimport memcpy

from gridtokenx.errors import InvariantError

from gridtokenx._native.state cimport Entry, Working

include "packed.pxi"

cdef enum:
    METER = 0           # attributes of a report
    WINDOW = 1
    QUALITY = 2
    REVISION = 3
    ENERGIES = 4
    SIGNATURE = 5
    FIELDS = 6
    SIGNED = 4          # items that a meter signs: window, quality, revision, energies
    READING_SIZE = 5
    MOST_WINDOWS = 96
    CORRECTED = 2
    QUARTERS = 4
    OWNER = 0           # attributes of a meter
    KEY = 2
    ZONE = 3
    INJECTION = 7
    WITHDRAWAL = 8
    SINCE = 9
    BOUNDARY = 10
    ADDRESS = 32

cdef int64_t MOST = (<int64_t>1 << 62) - 1


cdef class Readings:
    """The kernel; made once, with the records' classes by name, their spaces, the greatest numbers that the first fields
    of a report may have, in their order, and the greatest energy. ValueError when a class has other attributes than it
    knows."""

    cdef Shape meter, reading, report
    cdef uint8_t meter_space, reading_space
    cdef int64_t window_ms, most_wh
    cdef int64_t[ENERGIES] most
    cdef Py_ssize_t signature_bytes, windows

    def __init__(self, dict classes not None, spaces not None, tuple most not None, *, most_wh, report_windows, window_ms,
                 signature_bytes):
        cdef int i
        self.meter, self.reading, self.report = (shape_of(classes, name) for name in ("Meter", "Reading", "SignedReport"))
        self.meter_space, self.reading_space = spaces["METER"], spaces["READING"]
        self.most_wh, self.windows, self.window_ms = most_wh, report_windows, window_ms
        self.signature_bytes = signature_bytes
        if not 0 < self.windows <= MOST_WINDOWS:
            raise ValueError(f"reports of {report_windows} windows; the kernel knows at most {MOST_WINDOWS}")
        for i in range(ENERGIES):
            self.most[i] = most[i]

    cdef int64_t number(self, object report, int field) except? -1:
        """A field of a report that `parse` made."""
        return self.report.get(report, field)

    cdef object address(self, object meter, int field):
        """The owner or the key of a meter, given as the record or as its bytes."""
        cdef Fields f
        cdef const uint8_t* found
        cdef Py_ssize_t i
        if type(meter) is not bytes:
            return self.meter.get(meter, field)
        f.at, f.bad = <const uint8_t*>PyBytes_AS_STRING(meter), False
        f.end = f.at + PyBytes_GET_SIZE(meter)
        count(&f)
        for i in range(field):
            skip(&f)
        found = octets(&f, ADDRESS)
        if f.bad:
            raise InvariantError(f"{meter.hex()} is no meter")
        return PyBytes_FromStringAndSize(<const char*>found, ADDRESS)

    def count(self, reports) -> int:
        """How many readings they have."""
        cdef Py_ssize_t readings = 0
        for report in reports:
            readings += len(<tuple?>self.report.get(report, ENERGIES)) // 2
        return readings

    def parse(self, tuple entries not None):
        """The reports that the fields of an operation hold; None when one of them is not what it must be."""
        cdef list made = []
        cdef object entry, energy, report, signature
        cdef tuple energies
        cdef int64_t number
        cdef int64_t[ENERGIES] numbers
        cdef int i
        for entry in entries:
            if type(entry) is not tuple or len(<tuple>entry) != FIELDS:
                return None
            for i in range(ENERGIES):
                if not read_between((<tuple>entry)[i], i == METER, self.most[i], &numbers[i]):
                    return None
            if type((<tuple>entry)[ENERGIES]) is not tuple:
                return None
            energies = (<tuple>entry)[ENERGIES]
            if len(energies) % 2 or not 2 <= len(energies) <= 2 * self.windows or (
                    numbers[WINDOW] + len(energies) // 2 - 1 > self.most[WINDOW]):
                return None
            for energy in energies:
                if not read_between(energy, 0, self.most_wh, &number):
                    return None
            signature = (<tuple>entry)[SIGNATURE]
            if type(signature) is not bytes or PyBytes_GET_SIZE(signature) != self.signature_bytes:
                return None
            report = self.report.new()
            for i in range(FIELDS):
                self.report.set(report, i, (<tuple>entry)[i])
            made.append(report)
        return tuple(made)

    def check(self, Working session not None, reports, bytes sender not None, uint64_t zones, opened):
        """Of each report its meter, as `session.peek` gives it, or None where the report is not plain; `opened(window)`
        says for windows whether readings of them can be."""
        cdef list found = []
        cdef dict known = {}
        cdef object meter, report, is_open
        cdef tuple energies
        cdef int64_t[BOUNDARY + 1 - ZONE] m     # from zone on
        cdef int64_t number, window, zone, since, boundary, injection, withdrawal
        cdef Py_ssize_t i
        cdef bint plain
        for report in reports:
            found.append(None)
            if type(report) is not self.report.cls:
                continue
            number, window, energies = self.number(report, METER), self.number(report, WINDOW), self.report.get(report, ENERGIES)
            plain = True
            for i in range(len(energies) // 2):
                is_open = known.get(window + i)
                if is_open is None:
                    is_open = known[window + i] = opened(window + i)
                plain = plain and is_open
            if not plain:
                continue
            meter = session.entry(key_of(self.meter_space, number)).now
            if meter is None or not read_any(self.meter, meter, MOST, ZONE, BOUNDARY + 1 - ZONE, m):
                continue
            zone, since, boundary = m[0], m[SINCE - ZONE], m[BOUNDARY - ZONE]
            injection, withdrawal = m[INJECTION - ZONE], m[WITHDRAWAL - ZONE]
            if boundary or window * self.window_ms < since or not (
                    (0 <= zone < 64 and zones >> zone & 1) or self.address(meter, OWNER) == sender):
                continue
            if (self.number(report, QUALITY) == CORRECTED) != (self.number(report, REVISION) > 0):
                continue
            for i in range(0, len(energies), 2):
                if <int64_t>energies[i] > injection // QUARTERS or <int64_t>energies[i + 1] > withdrawal // QUARTERS:
                    plain = False
            if plain:
                found[len(found) - 1] = meter
        return found

    def signed_by(self, meter, report, bytes prefix not None):
        """(the meter's key, the signature, what it is over) of a report: `prefix` and its payload."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
        cdef uint8_t[(SIGNED + 2 * MOST_WINDOWS) * NUMBER_MOST + 1] payload
        cdef uint8_t* at = write_head(payload, ARRAY, SIGNED)
        cdef tuple energies = self.report.get(report, ENERGIES)
        cdef object energy
        cdef bytes message
        cdef int i
        for i in range(WINDOW, ENERGIES):
            at = write_number(at, self.number(report, i))
        at = write_head(at, ARRAY, len(energies))
        for energy in energies:
            at = write_number(at, energy)
        message = PyBytes_FromStringAndSize(NULL, size + (at - payload))
        memcpy(PyBytes_AS_STRING(message), PyBytes_AS_STRING(prefix), size)
        memcpy(PyBytes_AS_STRING(message) + size, payload, at - payload)
        return self.address(meter, KEY), self.report.get(report, SIGNATURE), message

    def take(self, Working session not None, reports, list meters not None, list good not None, Py_ssize_t index, in_time):
        """Puts readings of reports from the one at `index` on into state, up to a report that is not plain, whose
        signature is not good, or that has a reading which is there or whose window's deadline has passed; returns the
        index of that one, of which nothing is put."""
        cdef object report, is_in_time
        cdef Entry entry
        cdef int64_t[READING_SIZE] n        # injected, withdrawn, quality, revision, height
        cdef dict known = {}
        cdef list entries
        cdef tuple energies
        cdef int64_t window, number
        cdef Py_ssize_t i, size = len(reports)
        n[4] = session.height
        while index < size:
            report = reports[index]
            if meters[index] is None or not good[index]:
                break
            number, window, energies = self.number(report, METER), self.number(report, WINDOW), self.report.get(report, ENERGIES)
            entries = []
            for i in range(len(energies) // 2):
                is_in_time = known.get(window + i)
                if is_in_time is None:
                    is_in_time = known[window + i] = in_time(window + i)
                if not is_in_time:
                    return index
                entry = session.entry(window_key(self.reading_space, window + i, number))
                if entry.now is not None:
                    return index
                entries.append(entry)
            n[2], n[3] = self.number(report, QUALITY), self.number(report, REVISION)
            for i in range(len(entries)):
                n[0], n[1] = energies[2 * i], energies[2 * i + 1]
                session.set(<Entry>entries[i], write_all(self.reading, n))
            index += 1
        return index
