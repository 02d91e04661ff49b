"""Vectors as plain lists, for slow and obvious references."""

import math


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def cosine(a, b):
    return dot(unit(a), unit(b))


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def softmax(logits):
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    return [power / sum(powers) for power in powers]


def huber(difference):
    """With the knee at 1, as in Park et al."""
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def arcface(embeddings, labels, centres, scale, margins):
    """ArcFace with a margin per row; beyond pi the straight line continues."""
    losses = []
    for embedding, label, margin in zip(embeddings, labels, margins, strict=True):
        logits = [scale * cosine(embedding, centre) for centre in centres]
        angle = math.acos(max(-1.0, min(1.0, cosine(embedding, centres[label]))))
        if angle + margin < math.pi:
            logits[label] = scale * math.cos(angle + margin)
        else:
            logits[label] = scale * (math.cos(angle) - margin * math.sin(margin))
        losses.append(-math.log(softmax(logits)[label]))
    return mean(losses)
