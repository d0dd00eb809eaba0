"""Wrong answers to the exercises, and words of the hint that each has to get."""

WRONG: dict[str, dict[str, dict[str, str]]] = {
    "01": {
        "binary_fraction": {
            "1011": "from right to left",
            "1110": "too much",
            "101": "You wrote 3 bits",
            "1100": "Double 13/16",
        },
        "value_of_bits": {
            "1": "hidden bit",
            "24": "bias",
            "8": "both the hidden bit and the bias",
            "2.2": "binary here",
            "-3": "sign",
            "7": "exponent field 100",
        },
        "bits_of_value": {
            "0 010 01": "bias",
            "0 101 10": "stored the hidden bit",
            "0 010 10": "only the digits after the point",
            "1 101 01": "101 in binary",
        },
        "smallest": {
            "1/4": "smallest *normal* value",
            "2**-5": "1 − bias, not 0 − bias",
            "5/16": "hidden bit is 0",
            "5/32": "hidden bit is 0",
            "0.1": "subnormal value",
        },
        "count": {
            "64": "number of codes",
            "56": "0 and −0 twice",
            "28": "one sign only",
            "63": "E = 111",
            "50": "How many exponent fields",
        },
        "exponent_of_tenth": {
            "01100": "at least 1",
            "10011": "negative",
            "00100": "forgot the bias",
            "1011": "You wrote 4 bits",
        },
    },
    "02": {
        "tie": {"5": "half up", "4.5": "not a value", "3": "last bit 0"},
        "mode": {"rtp": "toward +∞", "rtz": "smaller", "RNE": "tie", "down": "number line"},
        "ulp": {
            "1/128": "between 1 and 2",
            "2**-8": "half an ulp between 1 and 2",
            "1/32": "one bit is hidden",
            "1/16": "power of two is not",
            "0.1": "How many steps",
        },
        "unit_roundoff": {"2**-10": "machine epsilon", "2**-12": "Count again", "3": "precision p"},
        "coin": {"0.5": "fair coin", "3/4": "go down", "0": "never goes up", "1/8": "Divide"},
        "twice": {
            "1.25": "*once*",
            "1.125": "first step",
            "2": "power of two",
            "1.3": "First step",
        },
    },
    "03": {
        "ones": {
            "1024": "hidden bit",
            "4096": "earlier",
            "65504": "largest value",
            "2047": "One more one",
            "300": "256 as a power of two",
        },
        "last_term": {
            "64": "a tie",
            "33": "whole gap",
            "32": "whole gap",
            "129": "four times",
            "70": "2⁷ steps",
        },
        "order": {"5": "exact sum", "4.5": "not a value", "6": "to even", "7": "before you go on"},
        "tournament": {"1023": "*one* number", "512": "first round", "11": "rounds", "9": "second"},
        "kahan": {"256": "kept in c", "257": "no 257", "-258": "sign", "260": "What is c"},
    },
}
