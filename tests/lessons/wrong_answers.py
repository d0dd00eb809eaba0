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
}
