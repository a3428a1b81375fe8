"""A job's log in words: one line an event."""

from tuner.store.events import Event


def in_words(event: Event) -> str:
    """What happened, without its time."""
    data = event.data
    match event.kind:
        case "job":
            return _with(f"the job is {data['state']}", attempt=data.get("attempt"), reason=data.get("reason"))
        case "stage":
            return f"{data['stage']} begins"
        case "trial_started":
            return f"trial {data['number']} starts"
        case "epoch":
            who = f"trial {data['number']}" if "number" in data else data["run"]
            return f"{who}, epoch {data['epoch']}: {data['value']:.4f}"
        case "trial_finished":
            reason = {key: data.get(key) for key in ("reason", "detail")}
            return _with(f"trial {data['number']} is {data['state']}{_value(data.get('value'))}", **reason)
        case "trial_enqueued":
            return f"trial {data['number']} is enqueued"
        case "trial_voided":
            return _with(f"trial {data['number']} is void", reason=data.get("reason"))
        case "trial_restored":
            return f"trial {data['number']} counts again"
        case "run_finished":
            value = _value(data.get("validation_accuracy"))
            return _with(f"{data['stage']} of {data['contender']} is {data['state']}{value}", reason=data.get("reason"))
        case "champion":
            return f"champion {data['verdict']}: {data['model']} ({data['reason']})"
        case "warning":
            return str(data["message"])
    return _with(event.kind, **data)


def line(event: Event) -> str:
    return f"{event.at} {in_words(event)}"


def _value(value: float | None) -> str:
    return "" if value is None else f": {value:.4f}"


def _with(text: str, **details: object) -> str:
    """The last line of what has several, as tracebacks have."""
    given = [
        f"{key}: {str(value).strip().splitlines()[-1]}" for key, value in details.items() if value not in (None, "")
    ]
    return f"{text} ({', '.join(given)})" if given else text
