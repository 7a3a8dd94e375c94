"""Figures in; a table, JSON and a plot out."""

import json
import os
import platform
import re
import subprocess

DELTAS = ("guest added", "guest changed", "guest removed", "filter redefined")
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"
# Where a document has its plot.
PLOT = "docs/bench.svg"


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    tools = subprocess.run(["ebtables", "--version"], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, {tools}, load average {os.getloadavg()[1]:.1f}"


def write(directory, figures):
    os.makedirs(directory, exist_ok=True)
    text = table(figures)
    files = {"bench.json": json.dumps(figures, indent=1) + "\n", "bench.md": text, "bench.svg": plot(figures["sizes"])}
    for name, content in files.items():
        with open(os.path.join(directory, name), "w") as file:
            file.write(content)
    print(text)


def table(figures):
    """One column a size; a figure, and what it is of the raw tools' in the same run."""
    sizes = figures["sizes"]
    lines = rows(sizes, [
        ("ebtables rules", lambda one: f"{one['ebtables_rules']}"),
        ("raw restore, one tool after the other", lambda one: seconds(one["wall"]["raw restore"])),
        ("raw save, one tool after the other", lambda one: seconds(one["wall"]["raw save"])),
        *goals(),
        ("files to plan alone (of cold apply)", lambda one: of(one["wall"]["pure half"], one["wall"]["cold apply"])),
        ("`render`", lambda one: seconds(one["wall"]["render"])),
        ("`diff`, in sync", lambda one: seconds(one["wall"]["diff"])),
        ("CPU: cold apply (of restore + save)", lambda one: of(one["cpu"]["cold apply"], one["cpu"]["raw restore"] + one["cpu"]["raw save"])),
        ("CPU: verifying pass (of save)", lambda one: of(one["cpu"]["verifying apply"], one["cpu"]["raw save"])),
        *(
            (f"CPU: {name}, verified (of raw `--noflush`)", lambda one, name=name: of(one["reaction_cpu"][name], one["raw_delta_cpu"][name]))
            for name in DELTAS
        ),
        ("CPU: `render`", lambda one: seconds(one["cpu"]["render"])),
        ("CPU: `diff`, in sync", lambda one: seconds(one["cpu"]["diff"])),
        ("peak memory: cold apply", lambda one: megabytes(one["watched"]["cold apply"]["peak"])),
        ("peak memory: daemon after all of this", lambda one: megabytes(one["daemon_peak_bytes"])),
        ("peak memory: the largest raw restore, save", lambda one: ", ".join(map(megabytes, one["raw_peak_bytes"].values()))),
        ("processes: cold apply, verifying pass", lambda one: ", ".join(str(found["processes"]) for found in one["watched"].values())),
        ("processes: look at an unmoved host", lambda one: f"{one['idle']['processes']}"),
        *(
            (f"processes: {name} (raw)", lambda one, name=name: f"{one['reaction_processes'][name]} ({one['raw_delta_processes'][name]})")
            for name in DELTAS
        ),
    ])
    return "\n".join(lines) + "\n\n" + "\n".join(notes(figures)) + "\n"


def summary(figures):
    """What a README has room for."""
    memory = ("peak memory: cold apply, daemon after all of this", lambda one: ", ".join(map(megabytes, (one["watched"]["cold apply"]["peak"], one["daemon_peak_bytes"]))))
    lines = rows(figures["sizes"], [*goals(), memory])
    return "\n".join(lines) + "\n\n" + "\n".join(notes(figures)) + "\n"


def goals():
    """The figures that somebody waits for."""
    return [
        (
            "cold apply, files to verified (of raw restore + save)",
            lambda one: of(one["wall"]["cold apply"], one["wall"]["raw restore"] + one["wall"]["raw save"]),
        ),
        ("verifying pass, nothing to do (of raw save)", lambda one: of(one["wall"]["verifying apply"], one["wall"]["raw save"])),
        *(
            (f"{name}, file to commit (of raw restore `--noflush`)", lambda one, name=name: of(one["reaction"][name], one["raw_delta"][name]))
            for name in DELTAS
        ),
        ("flush to restored (of raw restore)", lambda one: of(one["reaction"]["flush to restored"], one["wall"]["raw restore"])),
        ("look at an unmoved host, CPU", lambda one: seconds(one["idle"]["cpu"])),
    ]


def rows(sizes, cells):
    """A table: for every name, what its function makes of each size."""
    head = ["| | " + " | ".join(f"{one['guests']} guests" for one in sizes) + " |", "|---|" + "---|" * len(sizes)]
    return head + [f"| {name} | {' | '.join(cell(one) for one in sizes)} |" for name, cell in cells]


def notes(figures):
    """How it was measured."""
    found = [f"Medians of {figures['runs']} runs; the time that files (75 ms) or rules (50 ms) have to be quiet is not in them. {figures['machine']}."]
    beside = figures["libvirt"]
    if beside:
        factor = beside["libvirt_create"] / beside["bridgeward_apply"]
        found.append(
            f"{beside['guests']} guests through {beside['version']}: {seconds(beside['libvirt_create'])} to create, {seconds(beside['libvirt_restore'])} "
            f"after a flush and a signal; bridgeward: {seconds(beside['bridgeward_apply'])}, {factor:.0f} times less."
        )
    return found


def megabytes(value):
    return f"{value / 1e6:.0f} MB"


def seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms" if value < 0.01 else f"{value * 1000:.0f} ms"


def of(value, raw):
    return f"{seconds(value)} ({value / raw:.2f})"


def plot(sizes):
    """Wall time against guests, both logarithmic: ours as lines, the raw tools dashed."""
    from math import log10

    series = [
        ("cold apply", "#1f5fa8", "", [one["wall"]["cold apply"] for one in sizes]),
        ("raw restore + save", "#1f5fa8", "4 3", [one["wall"]["raw restore"] + one["wall"]["raw save"] for one in sizes]),
        ("verifying pass", "#2f8f4e", "", [one["wall"]["verifying apply"] for one in sizes]),
        ("raw save", "#2f8f4e", "4 3", [one["wall"]["raw save"] for one in sizes]),
        ("one guest added", "#b4511f", "", [one["reaction"]["guest added"] for one in sizes]),
        ("raw restore of that", "#b4511f", "4 3", [one["raw_delta"]["guest added"] for one in sizes]),
    ]
    values = [max(value, 1e-4) for _, _, _, line in series for value in line]
    left, right = log10(sizes[0]["guests"]) - 0.1, log10(sizes[-1]["guests"]) + 0.1
    bottom, top = log10(min(values)) - 0.1, log10(max(values)) + 0.1
    x = lambda guests: 70 + (log10(guests) - left) / (right - left) * 420
    y = lambda value: 330 - (log10(max(value, 1e-4)) - bottom) / (top - bottom) * 300
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 370" font-family="sans-serif" font-size="12">', '<rect width="680" height="370" fill="#fff"/>']
    for power in range(-4, 4):
        if bottom <= power <= top:
            at = y(10**power)
            out.append(f'<path d="M70 {at:.1f}H490" stroke="#ddd"/><text x="62" y="{at + 4:.1f}" text-anchor="end">{10**power:g} s</text>')
    for one in sizes:
        out.append(f'<text x="{x(one["guests"]):.1f}" y="350" text-anchor="middle">{one["guests"]}</text>')
    out.append('<text x="280" y="366" text-anchor="middle">guests</text>')
    for number, (name, color, dash, line) in enumerate(series):
        points = " ".join(f'{x(one["guests"]):.1f},{y(value):.1f}' for one, value in zip(sizes, line))
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>')
        at = 40 + 22 * number
        out.append(f'<path d="M505 {at}H535" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/><text x="541" y="{at + 4}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def into(path, figures):
    """Puts the summary between the marks of a document, and the plot beside it."""
    with open(os.path.join(os.path.dirname(path), PLOT), "w") as file:
        file.write(plot(figures["sizes"]))
    text = f"{summary(figures)}\n![wall time against guests, beside the raw tools]({PLOT})\n"
    with open(path) as file:
        document = file.read()
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.S)
    with open(path, "w") as file:
        file.write(pattern.sub(lambda _: f"{BEGIN}\n{text}{END}", document))
