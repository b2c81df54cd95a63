"""Writes exp_negative.csv: the bits of x and of the double nearest to exp(-x), in hexadecimal.

python3 exp_negative.py > exp_negative.csv     (needs mpmath)
"""

import random
import struct
from fractions import Fraction

import mpmath

mpmath.mp.prec = 2000


def bits(x):
    return struct.unpack(">Q", struct.pack(">d", x))[0]


def exact(value):
    sign, mantissa, exponent, _ = value._mpf_
    return (-1 if sign else 1) * Fraction(mantissa) * Fraction(2) ** exponent


def nearest(x):
    """Python's own conversion of a fraction to a float is rounded correctly."""
    return float(exact(mpmath.exp(-mpmath.mpf(x))))


def closeness(x):
    """How near exp(-x) comes to the middle between two doubles, as a part of the distance between them."""
    value, rounded = exact(mpmath.exp(-mpmath.mpf(x))), Fraction(nearest(x))
    ulp = Fraction(2) ** (int(bits(float(rounded)) >> 52) - 1075)
    return abs(abs(value - rounded) / ulp - Fraction(1, 2))


random.seed(20)
ages = [age / 150000.0 for age in range(1, 10001)]
slices = [slice * 10000 / 150000.0 for slice in range(30)]
chosen = slices + sorted(ages, key=closeness)[:100] + random.sample(ages, 50)
chosen += [random.uniform(0, 1) for _ in range(50)] + [random.uniform(0, 500) for _ in range(100)]
chosen += [2.0 ** -e for e in range(1, 60)] + [2.0 ** -e * random.uniform(1, 2) for e in range(1, 60)]
chosen += [500.0, 700.0]
for x in chosen:
    print(f"{bits(x):016x},{bits(nearest(x)):016x}")
