"""Scores, cases, controls, intervals and reports, for any tool and for our benchmarks.

    metrics.py, scores.py, perceptual.py     what one output is worth
    intervals.py                             the one bootstrap, by person
    benchmark_cases.py, benchmark_report.py  Benchmark P; retouchers.py: what is measured; disturbances.py: worse photos
    outputs.py, engines.py                   folders of outputs, ours or any tool's
    report.py, sheet.py                      JSON, Markdown, pictures of the worst

To add a benchmark: its cases here or in its engine's folder, a program on top, intervals from intervals.py.
"""
