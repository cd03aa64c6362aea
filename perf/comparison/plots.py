"""A plot of each row: a bar for each subject, its median with the least and greatest, and every round as a dot. SVG by hand."""

import html
import math
import re
import statistics

WIDTH, LEFT, RIGHT = 880, 350, 150
BAR, GAP, HEAD, FOOT = 24, 12, 44, 52
OURS, THEIRS, DARK, LIGHT = "#2b6cb0", "#a0aec0", "#1a202c", "#e2e8f0"
FONT = "font-family='sans-serif'"


def of_row(row, figures):
    """The plot of a row, as text: a panel for each figure that is shown."""
    height, parts = HEAD, [text(16, 26, f"{row.key}. {row.title}", 16, weight="bold")]
    for field, unit, digits in row.plotted:
        values = {name: [one[field] for one in rounds if one.get(field)] for name, rounds in figures.items()}
        values = {row.titles[name]: rounds for name, rounds in values.items() if rounds}
        if values:
            parts += panel(values, unit, digits, height)
            height += len(values) * (BAR + GAP) + FOOT
    return document(parts, height)


def document(parts, height):
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'>"
    return "\n".join([head, f"<rect width='{WIDTH}' height='{height}' fill='white'/>", *parts, "</svg>", ""])


def panel(values, unit, digits, top):
    most, bottom = nice(max(max(rounds) for rounds in values.values())), top + len(values) * (BAR + GAP)
    across = lambda value: LEFT + (WIDTH - LEFT - RIGHT) * value / most
    for step in range(5):
        at = across(most * step / 4)
        yield f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{top}' y2='{bottom}' stroke='{LIGHT}'/>"
        yield text(at, bottom + 16, short(most * step / 4), 11, anchor="middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, bottom + 33, f"{unit}: median, least to greatest, each round", 12, anchor="middle")
    for number, (title, rounds) in enumerate(values.items()):
        yield from bar(title, rounds, top + number * (BAR + GAP) + GAP / 2, across, digits)


def of_goals(rows, saved):
    """How far each figure is beyond what was asked for, or short of it, on a scale of factors."""
    found = []
    for row in (row for row in rows if row.key in saved):
        for goal in row.goals:
            values = goal.of(saved[row.key]["figures"])
            if values and min(values) > 0:
                factor = (lambda value: value / goal.least) if goal.least is not None else (lambda value: goal.most / value)
                found.append((f"{row.key}: {goal.what}", *(factor(value) for value in values)))
    if not found:
        return ""
    reach = max(2.0, *(max(value, 1 / value) for _, *values in found for value in values))
    across = lambda value: LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value, reach) + 1) / 2
    line, bottom = 22, HEAD + 22 * len(found) + 8
    parts = [text(16, 26, "Against what was asked for: right of the line is better", 16, weight="bold")]
    for value in sorted({1 / 10, 1 / 3, 1, 3, 10} | {1 / reach, reach}):
        if 1 / reach <= value <= reach:
            at, colour = across(value), DARK if value == 1 else LIGHT
            parts.append(f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{HEAD}' y2='{bottom}' stroke='{colour}'/>")
            parts.append(text(at, bottom + 16, f"{value:.2g} ×", 11, anchor="middle"))
    for number, (title, middle, *ends) in enumerate(found):
        y, colour = HEAD + line * (number + 0.6), OURS if middle >= 1 else "#c05621"
        parts.append(text(LEFT - 8, y + 4, title, 12, anchor="end"))
        low, high = across(min(ends)), across(max(ends))
        parts.append(f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='1.5'/>")
        parts.append(f"<circle cx='{across(middle):.1f}' cy='{y}' r='4.5' fill='{colour}'/>")
        parts.append(text(WIDTH - RIGHT + 40, y + 4, f"{middle:.2f} ×", 12))
    return document(parts, bottom + FOOT / 2)


def bar(title, rounds, top, across, digits):
    median, middle = statistics.median(rounds), top + BAR / 2
    ours = title.startswith("**memdb**")
    title = re.sub(r"[*`\\]", "", title)
    title = title if len(title) <= 54 else title[:52] + "…"
    yield text(LEFT - 8, middle + 4, title, 12, anchor="end", weight="bold" if ours else "normal")
    width = max(across(median) - LEFT, 1)
    yield f"<rect x='{LEFT}' y='{top}' width='{width:.1f}' height='{BAR}' fill='{OURS if ours else THEIRS}'/>"
    low, high = across(min(rounds)), across(max(rounds))
    yield f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{middle}' y2='{middle}' stroke='{DARK}' stroke-width='1.5'/>"
    for value in rounds:
        yield f"<circle cx='{across(value):.1f}' cy='{middle}' r='2.5' fill='{DARK}'/>"
    yield text(max(high, across(median)) + 8, middle + 4, f"{median:,.{digits}f}", 12)


def text(x, y, content, size, anchor="start", weight="normal"):
    style = f"{FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' fill='{DARK}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{html.escape(content)}</text>"


def nice(most):
    """The next round number."""
    power = 10 ** (len(str(int(most))) - 1) if most >= 1 else 0.1
    while power > most:
        power /= 10
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10, 12) if step * power >= most)


def short(value):
    for size, name in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
