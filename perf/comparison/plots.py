"""A plot of each row: a bar for each subject, its median with the least and greatest, and every round as a dot. SVG by hand."""

import html
import re
import statistics

WIDTH, LEFT, RIGHT = 860, 330, 150
BAR, GAP, HEAD, FOOT = 26, 16, 56, 48
OURS, THEIRS, DARK, LIGHT = "#2b6cb0", "#a0aec0", "#1a202c", "#e2e8f0"
FONT = "font-family='sans-serif'"


def svg(row, figures):
    """The plot, as text; nothing if no subject has the figure that is plotted."""
    field, unit, digits = row.plotted
    values = {name: [one[field] for one in rounds if one.get(field)] for name, rounds in figures.items()}
    values = {name: rounds for name, rounds in values.items() if rounds}
    if not values:
        return ""
    most = nice(max(max(rounds) for rounds in values.values()))
    height = HEAD + len(values) * (BAR + GAP) + FOOT
    across = lambda value: LEFT + (WIDTH - LEFT - RIGHT) * value / most
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
        text(16, 24, f"{row.key}. {row.title}", 16, weight="bold"),
        text(16, 42, f"{unit}: median, least to greatest, and each round", 12),
    ]
    bottom = height - FOOT
    for step in range(5):
        at = across(most * step / 4)
        parts.append(f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{HEAD}' y2='{bottom}' stroke='{LIGHT}'/>")
        parts.append(text(at, bottom + 18, short(most * step / 4), 11, anchor="middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, unit, 12, anchor="middle"))
    for number, (name, rounds) in enumerate(values.items()):
        top = HEAD + number * (BAR + GAP) + GAP / 2
        parts += bar(row.titles[name], rounds, top, across, digits)
    return "\n".join([*parts, "</svg>", ""])


def bar(title, rounds, top, across, digits):
    median, middle = statistics.median(rounds), top + BAR / 2
    ours = title.startswith("**memdb**")
    title = re.sub(r"[*`\\]", "", title)
    title = title if len(title) <= 48 else title[:46] + "…"
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
