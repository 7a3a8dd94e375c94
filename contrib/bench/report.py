"""Figures in; a table, JSON and a plot out."""

import json
import os
import platform
import re
import subprocess

DELTAS = ("guest added", "guest changed", "guest removed", "filter redefined")
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"


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
    rows = [("", [f"{one['guests']} guests" for one in sizes]), ("ebtables rules", [f"{one['ebtables_rules']}" for one in sizes])]
    both = [one["wall"]["raw restore"] + one["wall"]["raw save"] for one in sizes]
    rows.append(("raw restore, one tool after the other", [seconds(one["wall"]["raw restore"]) for one in sizes]))
    rows.append(("raw save, one tool after the other", [seconds(one["wall"]["raw save"]) for one in sizes]))
    rows.append(("cold apply, files to verified (of restore + save)", [of(one["wall"]["cold apply"], raw) for one, raw in zip(sizes, both)]))
    rows.append(("verifying pass, nothing to do (of save)", [of(one["wall"]["verifying apply"], one["wall"]["raw save"]) for one in sizes]))
    for name in DELTAS:
        rows.append((f"{name}, file to commit (of raw `--noflush`)", [of(one["reaction"][name], one["raw_delta"][name]) for one in sizes]))
    rows.append(("flush to restored (of restore)", [of(one["reaction"]["flush to restored"], one["wall"]["raw restore"]) for one in sizes]))
    rows.append(("look at an unmoved host, CPU, no process", [seconds(one["idle_cpu"]) for one in sizes]))
    rows.append(("`render`", [seconds(one["wall"]["render"]) for one in sizes]))
    rows.append(("`diff`", [seconds(one["wall"]["diff"]) for one in sizes]))
    rows.append(("CPU of a cold apply, tools included", [seconds(one["cpu"]["cold apply"]) for one in sizes]))
    rows.append(("peak memory of a cold apply", [f"{one['cold_peak_bytes'] / 1e6:.0f} MB" for one in sizes]))
    rows.append(("processes of a cold apply", [f"{one['cold_processes']}" for one in sizes]))
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows]
    lines.insert(1, "|---|" + "---|" * len(sizes))
    notes = [f"Medians of {figures['runs']} runs; the time that files (75 ms) or rules (50 ms) have to be quiet is not in them. {figures['machine']}."]
    beside = figures["libvirt"]
    if beside:
        factor = beside["libvirt_create"] / beside["bridgeward_apply"]
        notes.append(
            f"{beside['guests']} guests through {beside['version']}: {seconds(beside['libvirt_create'])} to create, {seconds(beside['libvirt_restore'])} "
            f"after a flush and a signal; bridgeward: {seconds(beside['bridgeward_apply'])}, {factor:.0f} times less."
        )
    return "\n".join(lines) + "\n\n" + "\n".join(notes) + "\n"


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


def into(path, text):
    """Puts the summary between the marks of a document."""
    with open(path) as file:
        document = file.read()
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.S)
    with open(path, "w") as file:
        file.write(pattern.sub(lambda _: f"{BEGIN}\n{text}{END}", document))
