import CSwitchover

/// Tells a program: one JSON object a line, with names that never change.
struct JSONNarrator: Narrator {
  mutating func tell(
    _ news: MigrationNews, _ snapshot: MigrationSnapshot, elapsedMilliseconds: UInt64
  ) -> [Utterance] {
    func line(_ event: String, _ members: [(name: String, value: JSONValue)]) -> String {
      let head: [(name: String, value: JSONValue)] = [
        ("event", .string(event)), ("elapsed_ms", .unsigned(elapsedMilliseconds)),
      ]
      return JSONValue.object(head + members).line
    }
    switch news {
    case .entered:
      if snapshot.isIn(.SWO_PHASE_ENDED) { return [] }
      return [.result(line("phase", state(snapshot)))]
    case .progressed:
      return [.progress(line("progress", figures(snapshot) + disks(snapshot)))]
    case .warned(let text):
      return [.result(line("warning", [("text", .string(text))]))]
    case .logged(let text):
      return [.result(line("log", [("text", .string(text))]))]
    case .handOverAwaited:
      return [.result(line("hand-over-wanted", state(snapshot)))]
    case .handOverStarted(let command):
      return [.result(line("hand-over-started", [("command", .string(command))]))]
    case .handOverEnded(let result, let how):
      return [
        .result(
          line("hand-over-ended", [("result", .string(result.rawValue)), ("text", .string(how))]))
      ]
    case .cancelSent(let signal):
      return [.result(line("cancel", [("signal", .string(signal)), ("too_late", .bool(false))]))]
    case .cancelTooLate(let signal, _):
      return [.result(line("cancel", [("signal", .string(signal)), ("too_late", .bool(true))]))]
    case .ended:
      return [.result(line("finished", conclusion(snapshot)))]
    }
  }

  private func state(_ snapshot: MigrationSnapshot) -> [(name: String, value: JSONValue)] {
    [
      ("phase", .string(snapshot.phase.name)), ("owner", .string(snapshot.owner.name)),
      ("guest", .string(snapshot.guest.name)),
    ]
  }

  private func figures(_ snapshot: MigrationSnapshot) -> [(name: String, value: JSONValue)] {
    Figure.allCases.compactMap { figure in
      snapshot.figures[figure].map { (figure.jsonName, .unsigned($0)) }
    }
  }

  private func disks(_ snapshot: MigrationSnapshot) -> [(name: String, value: JSONValue)] {
    guard !snapshot.disks.isEmpty else { return [] }
    let disks = snapshot.disks.map { disk -> JSONValue in
      .object([
        ("device", .string(disk.device)), ("copied_bytes", .unsigned(disk.copiedBytes)),
        ("total_bytes", .unsigned(disk.totalBytes)),
      ])
    }
    return [("disks", .array(disks))]
  }

  private func conclusion(_ snapshot: MigrationSnapshot) -> [(name: String, value: JSONValue)] {
    let head: [(name: String, value: JSONValue)] = [
      ("end", .string(snapshot.end.name)), ("owner", .string(snapshot.owner.name)),
      ("guest", .string(snapshot.guest.name)),
      ("exit_status", .integer(Int64(snapshot.exitStatus.rawValue))),
      ("summary", .string(snapshot.summary)), ("next_step", .string(snapshot.nextStep)),
      ("failure", snapshot.failure.map(failure) ?? .null),
      ("journal", snapshot.journal.map(JSONValue.string) ?? .null),
    ]
    let parts = snapshot.ledger.map { part -> JSONValue in
      .object([
        ("name", .string(part.name)), ("start_us", .integer(part.startMicroseconds)),
        ("length_us", .integer(part.lengthMicroseconds)),
      ])
    }
    return head + figures(snapshot) + [("ledger", .array(parts))]
  }

  private func failure(_ failure: FailureReport) -> JSONValue {
    .object([
      ("code", .integer(Int64(failure.code))), ("name", .string(failure.name)),
      ("side", failure.side.map(JSONValue.string) ?? .null),
      ("command", .string(failure.command)), ("class", .string(failure.errorClass)),
      ("text", .string(failure.text)),
    ])
  }
}
