# What the kernels of plain cases have in common: the attributes of the records they know, and integers read within bounds.

include "slots.pxi"

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    bint PyLong_CheckExact(object value)

ATTRIBUTES = {
    "Account": ("nonce", "balance", "bids", "proceeds", "collateral", "credit", "locked", "released", "freed", "height",
                "participant", "threshold", "dues"),
    "Band": ("low", "high"),
    "Counters": ("participants", "meters", "orders", "sequence", "open_orders", "closed_orders", "height"),
    "Deferred": ("window", "kind", "order_id", "owner", "order", "amendment", "agreed", "borrowed", "place_borrowed",
                 "loaded", "fills_worst", "outcome"),
    "Energy": ("minted", "delivered", "received", "burned", "supplied", "taken"),
    "Lot": ("zone", "source", "minted_wh", "delivered_wh", "claimed_wh"),
    "Meter": ("owner", "participant", "key", "zone", "network", "source", "tariff", "injection_w", "withdrawal_w",
              "since_ms", "boundary"),
    "Order": ("meter", "participant", "zone", "side", "price", "quantity_wh", "remaining_wh", "expires_ms", "sequence",
              "term", "vat_ppm", "height", "source", "profile", "self_trade", "display_wh", "hidden_wh"),
    "Outcome": ("code", "data"),
    "Participant": ("account", "licence", "role", "zone", "expires_ms", "credit"),
    "Position": ("sold", "bought", "open_sell", "open_buy", "height", "freed_sell", "freed_buy", "new_sold", "new_bought"),
    "Prices": ("energy", "ft", "buy_back", "short", "long", "vat_ppm"),
    "Reading": ("injected_wh", "withdrawn_wh", "quality", "revision", "height"),
    "Settlement": ("owner", "zone", "injected", "withdrawn", "bought", "sold", "supplied", "taken", "quality", "revision",
                   "lines"),
    "SignedReport": ("meter", "window", "quality", "revision", "energies", "signature"),
    "Traded": ("purchase_uthb", "wheel_uthb", "fee_uthb", "vat_uthb", "sale_uthb", "collateral_uthb", "lost_wh"),
    "Usage": ("withdrawn_wh", "supplied_wh", "peak_wh"),
    "WindowRules": ("opens_ms", "gate_ms", "band", "vat_ppm", "short_cap")}


cdef Shape shape_of(dict classes, str name):
    """ValueError when the class of this name has other attributes than the kernels know."""
    cdef Shape shape
    cdef object cls = classes[name]
    known = tuple(attribute.name for attribute in cls.__attrs_attrs__)
    if known != ATTRIBUTES[name]:
        raise ValueError(f"the attributes of {name} are {known}; the kernel knows {ATTRIBUTES[name]}")
    shape = Shape(cls, known)
    shape.least = getattr(cls, "ALWAYS", MOST_SLOTS)
    return shape


cdef inline bint read_between(object value, int64_t least, int64_t most, int64_t* number) except -1:
    """False when it is no integer from `least` to `most`."""
    cdef int overflow = 0
    if not PyLong_CheckExact(value):
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0 and least <= number[0] <= most


cdef inline bint read(object value, int64_t most, int64_t* number) except -1:
    """False when it is no integer from -most to most."""
    return read_between(value, -most, most, number)


cdef inline bint read_all(Shape shape, object record, int64_t most, Py_ssize_t first, Py_ssize_t size,
                          int64_t* numbers) except -1:
    """`size` attributes of a record from the one at `first` on; zeros for none. False as `read`."""
    cdef Py_ssize_t i
    if record is None:
        for i in range(size):
            numbers[i] = 0
        return True
    if type(record) is not shape.cls:
        return False
    for i in range(size):
        if not read(shape.get(record, first + i), most, numbers + i):
            return False
    return True
