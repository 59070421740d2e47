"""The evaluation as a command: asks, prints, writes; wrong input is exit code 2."""

import argparse
import json
import sys
from typing import TextIO

from classifier_worker.evaluation import remote
from classifier_worker.evaluation.answers import Answers
from classifier_worker.evaluation.charts import as_file, reliability_plot
from classifier_worker.evaluation.manifest import InvalidManifest, Manifest, read_manifest
from classifier_worker.evaluation.report import as_html
from classifier_worker.evaluation.summary import Summary, as_text, summarize
from docfleet.commands.classify import UsageError, find_system


def run(options: argparse.Namespace) -> int:
    """Evaluate and return the exit code: 0 done, 1 no document could be read, 2 the user must act."""
    try:
        manifest = read_manifest(options.manifest, limit=options.limit, synonyms=options.synonyms)
        for file in (options.report, options.json, options.plot):
            if file is not None and not file.parent.is_dir():
                raise UsageError(f"{file}: there is no folder {file.parent}")
        answers = _ask(manifest, options)
    except (InvalidManifest, UsageError) as error:
        return _say(2, str(error))
    summary = summarize(manifest, answers, sizes=options.ways, seeds=options.seeds)
    if options.json is not None:
        with options.json.open("w", encoding="utf-8") as file:
            _write_lines(file, manifest, answers, summary)
    if summary is None:
        return _say(1, f"none of {len(manifest.rows)} documents has an answer; the first: {answers.answers[0].error}")
    sys.stdout.write(as_text(summary) + "\n")
    if options.plot is not None:
        options.plot.write_text(as_file(reliability_plot(summary.ways[0].bins)), encoding="utf-8")
    if options.report is not None:
        options.report.write_text(as_html(summary), encoding="utf-8")
        sys.stdout.write(f"\nreport: {options.report}\n")
    return 0


def _ask(manifest: Manifest, options: argparse.Namespace) -> Answers:
    total = len(manifest.rows)

    def on_done(done: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{done}/{total} documents" if done < total else "\r\x1b[K")
            sys.stderr.flush()

    if options.url is not None:
        system = find_system(options.url, options.api_key, options.data_dir)
        asked = remote.Asked(options.timeout, options.none_sample)
        return remote.ask(manifest, system, asked, on_done=on_done)
    # only here, because against a running system no model is needed
    from classifier_worker.evaluation import local
    from classifier_worker.models.weights import InvalidBundle

    try:
        return local.ask(
            manifest, options.bundle, readers=options.readers, document_seconds=options.timeout, on_done=on_done
        )
    except InvalidBundle as error:
        raise UsageError(str(error)) from error


def _write_lines(file: TextIO, manifest: Manifest, answers: Answers, summary: Summary | None) -> None:
    judged = {one.row.path: one for one in summary.judged} if summary else {}
    for row, answer in zip(manifest.rows, answers.answers, strict=True):
        line: dict[str, object] = {"path": row.path, "label": row.label}
        one = judged.get(row.path)
        if one is None or answer.error is not None:
            line |= {"error": answer.error}
        else:
            line |= {"prediction": one.prediction, "confidence": one.confidence, "scores": one.scores}
            if answer.fits is not None:
                line["fits"] = {"with_true_name": answer.fits[0], "without": answer.fits[1]}
            if answer.synonyms:
                label = manifest.names.index(one.name)
                line["synonyms"] = [
                    {"name": names[label], "prediction": names[int(scores.argmax())], "confidence": float(scores.max())}
                    for names, scores in zip(manifest.synonyms, answer.synonyms, strict=True)
                ]
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _say(exit_code: int, text: str) -> int:
    sys.stderr.write(f"docfleet evaluate: {text}\n")
    return exit_code


def main() -> int:
    """Run with the process's arguments, which `docfleet evaluate` has checked already."""
    from docfleet.commands.evaluate import add_arguments

    parser = argparse.ArgumentParser(prog="docfleet evaluate")
    add_arguments(parser)
    return run(parser.parse_args())
