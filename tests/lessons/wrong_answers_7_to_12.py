"""Wrong answers to the exercises of lessons 7 to 12, and words of the hint that each has to get."""

WRONG: dict[str, dict[str, dict[str, str]]] = {
    "07": {
        "smallest_scale": {
            "2": "below 2⁻²⁵",
            "8": "not the smallest",
            "8192": "a normal number",
            "3": "half of the smallest value",
        },
        "forgotten": {"0.01/1024": "too large, not too small", "0.01": "still scaled"},
        "largest_scale": {
            "8192": "Round down",
            "6550": "The scale is a power of two",
            "32768": "The scaled gradient has to fit",
            "1024": "power of two is not",
        },
        "window": {
            "2^12": "the smallest scale that serves",
            "17": "That is the exponent",
            "2^22": "*some* step",
            "2^18": "power of two is not",
        },
        "skipped": {
            "5": "counted the good step",
            "3": "81920",
            "4096": "How many steps does it take",
            "0": "the first step is skipped",
        },
    },
    "08": {
        "largest": {
            "480": "kept for NaN",
            "240": "as IEEE 754 does",
            "192": "hidden bit",
            "500": "exponent field 1111",
        },
        "scale": {
            "16384": "Round the",
            "13": "the exponent",
            "32": "near 1",
            "14933": "How often",
        },
        "block_scale": {
            "64": "take off 2",
            "32": "rounded up",
            "4": "That is the exponent",
            "100": "just below it",
        },
        "small_element": {
            "5": "no value of E2M1",
            "0": "nearer to 0.5",
            "0.5": "That is the element",
            "4": "below 0.5 there is only 0",
            "7": "Divide 5 by the scale",
        },
        "bits": {"4": "forgot the scale", "4.25": "MXFP4", "12": "once for 16", "5": "How much"},
        "best": {
            "e4m3": "hardly need",
            "MXFP8_E4M3": "wide enough",
            "mxfp8_e5m2": "fewest bits",
            "fp16": "in the table",
        },
    },
    "09": {
        "code": {
            "76": "cut off",
            "0": "you multiply",
            "38": "multiplied by 2⁷",
            "76.8": "whole number",
            "-77": "sign",
        },
        "largest": {
            "8": "four bits",
            "15.9375": "counted the sign",
            "7": "after the point can be 1",
            "127": "That is the code",
        },
        "shift": {"-51": "toward zero", "52": "negative", "-50": "Between which"},
        "wrap": {
            "7.9375": "saturation",
            "8.75": "beyond the largest",
            "0.75": "16 off, not 8",
            "-7": "exactly 16",
        },
        "zero_point": {
            "-64": "not negative",
            "63": "not cut off",
            "0": "Code 0",
            "85": "divided 255 by 3",
            "63.75": "whole number",
        },
        "symmetric": {
            "256": "all codes",
            "127": "0 has a code too",
            "255": "from −127 to 127",
            "7": "Not only whole numbers",
        },
    },
    "10": {
        "swallowed": {
            "2": "exact sum",
            "1 + 1/256": "half of a step",
            "1 + 1000/256": "not up to the next",
            "1.5": "a multiple of 1/256",
        },
        "probability": {
            "0.001": "in steps",
            "0.744": "stay at 1",
            "0.5": "not fair",
            "0": "rounding to nearest",
        },
        "bf16": {"2^-7": "is a value", "2^-9": "not the largest", "0": "no power of two"},
        "blame": {"operands": "coarser", "both": "alone is enough", "images": "more coarsely"},
        "gradient": {
            "1/512": "That is the update",
            "0.1953125": "Half of a step is enough",
            "0.02/512": "Divide by",
        },
    },
    "11": {
        "change": {"1.25": "sign counts", "0": "emulated result", "-1": "relative error"},
        "culprit": {"integer_pow": "column", "reduce_sum": "largest share", "div": "factor"},
        "gross": {"1.25": "with their signs", "4.2": "Multiply by 1.25", "420": "in %"},
        "remedy": {
            "difference": "exact already",
            "loss_scale": "exponents only",
            "none": "Where are the digits lost",
        },
        "rule": {
            "norm": "Add the format",
            "first:fp32": "is small",
            "loss:fp32": "last rounding",
            "norm:bf16": "fewer digits",
        },
        "overflow": {"255": "less than 65504", "65504": "its square", "65520": "its square"},
    },
    "12": {
        "infinite": {"65505": "nearer to 65504", "65536": "nearer to it", "65521": "a tie"},
        "stall": {
            "4096": "2 apart",
            "1024": "1025 has 11 bits",
            "2047": "2047 + 1",
            "65504": "Long before",
        },
        "epsilon": {"1e-8": "below half", "1e-4": "normal number", "1e-6": "smaller one"},
        "exponential": {"12": "too large", "88": "float32", "15": "larger than 2"},
        "megabytes": {"400": "How many bytes", "20": "2 bytes", "320": "A byte has 8"},
        "bytes": {
            "12": "*two* averages",
            "8": "Three of the five",
            "14": "the gradient",
            "10": "take 4 bytes",
        },
    },
}
