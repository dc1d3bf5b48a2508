"""Rows of a comparison, and what is written about them: JSON, a Markdown table, a picture, the README's table.

A row compares medians. The ratio is ours / peer; its range is that of the ratios within each round. `bar` says what the ratio must be
(">= 2.5", "<= 0.333"), or is null when nothing was asked; `met` is then null too. Nothing here measures.
"""

import json
import math
import os
import statistics
from html import escape

BEGIN, END = "<!-- peers:{work} -->", "<!-- /peers:{work} -->"


def bar_text(sign, value):
    return f"{sign} {value:.3g}"


def meets(ratio, bar):
    sign, value = bar.split()
    return ratio >= float(value) if sign == ">=" else ratio <= float(value)


def row(work, unit, ours, peer, bar=None, durability="", name="", version="", **more):
    """`ours` and `peer` are the figures of the rounds, `None` for a round that failed; durability of (ours, peer)."""
    pairs = [(a, b) for a, b in zip(ours, peer) if a is not None and b is not None and b > 0]
    if not pairs:
        return None
    ours_durability, peer_durability = durability if isinstance(durability, tuple) else (durability, durability)
    ratios = [a / b for a, b in pairs]
    ours, peer = [a for a, _ in pairs], [b for _, b in pairs]
    ratio = statistics.median(ours) / statistics.median(peer)
    return {
        "work": work,
        "ours": rounded(statistics.median(ours)),
        "peer": rounded(statistics.median(peer)),
        "peer_name": name,
        "peer_version": version,
        "unit": unit,
        "durability": ours_durability,
        "peer_durability": peer_durability,
        "ratio": rounded(ratio),
        "ratio_min": rounded(min(ratios)),
        "ratio_max": rounded(max(ratios)),
        "bar": bar,
        "met": None if bar is None else meets(ratio, bar),
        "ours_min": rounded(min(ours)),
        "ours_max": rounded(max(ours)),
        "peer_min": rounded(min(peer)),
        "peer_max": rounded(max(peer)),
        "rounds": len(pairs),
        **more,
    }


def rounded(value):
    """Four digits: more is noise."""
    return float(f"{value:.4g}")


def figure(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def peer_of(row):
    return f"{row['peer_name']} {row['peer_version']}".strip()


def verdict(row):
    return {None: "", True: "met", False: "**short**"}[row["met"]]


def markdown_rows(rows):
    lines = [
        "| load | Sunseo | durability | beside | its durability | it | unit | ratio (min to max) | must be | |",
        "|---|---:|---|---|---|---:|---|---:|---|---|",
    ]
    for row in rows:
        ratio = f"{figure(row['ratio'])} ({figure(row['ratio_min'])} to {figure(row['ratio_max'])})"
        cells = [row["work"], figure(row["ours"]), row["durability"], peer_of(row), row["peer_durability"], figure(row["peer"])]
        cells += [row["unit"], ratio, row["bar"] or "", verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def conditions_line(result):
    machine = result["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores shared by server and load, {machine['memory_gib']} GiB, {machine['system']}; "
        f"commit {result['commit']}, {result['date']}; {result['rounds']} rounds in turn, medians; "
        f"load average before the run {machine['load_average_1m']}"
    )


def markdown(result, picture):
    lines = [f"# {result['title']}", "", conditions_line(result) + ".", "", *markdown_rows(result["rows"]), "", f"![ratios]({picture})", ""]
    if result["missing"]:
        lines += ["## Missing", ""] + [f"- {entry['peer']}: {entry['why']}" for entry in result["missing"]] + [""]
    if result.get("settings"):
        lines += ["## How it was measured", ""] + [f"- {setting}" for setting in result["settings"]] + [""]
    return "\n".join(lines)


WIDTH, LINE, LEFT, RIGHT, TOP = 1160, 30, 500, 150, 64
GREEN, RED, GREY, INK, PALE = "#2a7d4f", "#c0392b", "#8795a1", "#22292f", "#dae1e7"


def picture(result):
    """Ratios on a logarithmic axis: a dot with its range, and a tick where it must be."""
    rows = result["rows"]
    values = [value for row in rows for value in (row["ratio_min"], row["ratio_max"], bar_value(row)) if value and value > 0]
    low, high = math.floor(math.log10(min([*values, 0.9]))), math.ceil(math.log10(max([*values, 1.1])))
    height = TOP + LINE * len(rows) + 46

    def x(value):
        share = (math.log10(min(max(value, 10**low), 10**high)) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 24, result["title"], size=16, weight="bold"),
        text(16, 44, "ratio Sunseo / beside, logarithmic; dot: median, line: least to most of the rounds, tick: what is asked", GREY),
    ]
    bottom = TOP + LINE * len(rows)
    for power in range(low, high + 1):
        value = 10**power
        parts.append(line(x(value), TOP - 6, x(value), bottom, PALE))
        parts.append(text(x(value), bottom + 18, f"{value:g}", GREY, anchor="middle"))
    parts.append(line(x(1), TOP - 6, x(1), bottom, GREY))
    for number, row in enumerate(rows):
        y = TOP + LINE * number + LINE / 2
        colour = {None: GREY, True: GREEN, False: RED}[row["met"]]
        label = f"{row['work']} [{row['durability']}]"
        parts.append(text(16, y - 1, shortened(label, 78)))
        parts.append(text(16, y + 11, shortened(f"beside {peer_of(row)} [{row['peer_durability']}]", 84), GREY, size=10))
        parts.append(line(x(row["ratio_min"]), y, x(row["ratio_max"]), y, colour, 3))
        parts.append(f'<circle cx="{x(row["ratio"]):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        bar = bar_value(row)
        if bar:
            parts.append(line(x(bar), y - 10, x(bar), y + 10, INK, 2))
        said = figure(row["ratio"]) + (f"  ({row['bar']})" if row["bar"] else "")
        parts.append(text(WIDTH - RIGHT + 14, y + 4, said, colour, weight="bold"))
    parts.append("</svg>\n")
    return "\n".join(parts)


def bar_value(row):
    return float(row["bar"].split()[1]) if row["bar"] else None


def shortened(words, most):
    return words if len(words) <= most else words[: most - 1] + "…"


def text(x, y, words, colour=INK, size=12, weight="normal", anchor="start"):
    words = escape(words)
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">{words}</text>'


def line(x1, y1, x2, y2, colour, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def replaced(page, work, lines):
    """The page with what stands between the markers of this work exchanged; a page without them stays as it is."""
    begin, end = BEGIN.format(work=work), END.format(work=work)
    if begin not in page or end not in page:
        return page
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n{lines}\n{end}{rest.split(end, 1)[1]}"


def write(result, work, folder, readme=None):
    """All files of a result; each is complete at any time."""
    os.makedirs(folder, exist_ok=True)
    files = {
        f"{work}.json": json.dumps(result, indent=2) + "\n",
        f"{work}.md": markdown(result, f"{work}.svg"),
        f"{work}.svg": picture(result),
    }
    paths = {os.path.join(folder, name): content for name, content in files.items()}
    if readme and os.path.exists(readme):
        with open(readme, encoding="utf-8") as file:
            page = file.read()
        said = "\n".join(["", conditions_line(result) + ".", "", *markdown_rows(result["rows"]), ""])
        if result["missing"]:
            said += "\nMissing: " + "; ".join(f"{entry['peer']} ({entry['why']})" for entry in result["missing"]) + "\n"
        paths[readme] = replaced(page, work, said)
    for path, content in paths.items():
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(path + ".tmp", path)
