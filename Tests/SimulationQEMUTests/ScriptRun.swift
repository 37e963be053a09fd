import QMP

/// One script against one pair.
struct ScriptRun {
  private let pair: any ScriptedPair
  private var source = Trace()
  private var target = Trace()
  /// How many events of a side have been waited for already.
  private var seen: (source: Int, target: Int) = (0, 0)

  static func run(_ script: Script, against pair: any ScriptedPair) throws -> [String] {
    var run = ScriptRun(pair)
    for step in script.steps { try run.carryOut(step) }
    return run.finish()
  }

  private init(_ pair: any ScriptedPair) { self.pair = pair }

  private mutating func carryOut(_ step: Script.Step) throws {
    switch step {
    case .type(let side, let name, let arguments):
      take(side, [(name, try object(arguments))])
    case .typeTogether(let side, let commands):
      take(
        side,
        try commands.map { text in
          let command = try object("{\(text)}")
          return (command["execute"]?.string ?? "", command["arguments"]?.object ?? [:])
        })
    case .await(let side, let event, let status): awaitEvent(side, event, status)
    case .awaitRunState(let side, let state, let other):
      if !pair.waitForRunState(side, [state, other ?? state]) {
        note(side) { $0.missed("run state \(state)") }
      }
    case .guest(let side, let command): pair.act(side, command)
    case .kill(let side): pair.kill(side)
    case .awaitEnd(let side):
      if !pair.waitForEnd(side) { note(side) { $0.missed("the end") } }
    }
  }

  private mutating func take(
    _ side: Script.Side, _ commands: [(name: String, arguments: JSONObject)]
  ) {
    for (command, reply) in zip(commands, pair.type(side, commands)) {
      note(side) { trace in
        switch reply {
        case .success(let value): trace.answered(command.name, value)
        case .failure(let error):
          trace.refused(command.name, errorClass: error.errorClass, text: error.text)
        case nil: trace.missed("a reply to \(command.name)")
        }
      }
    }
  }

  private mutating func awaitEvent(_ side: Script.Side, _ event: String, _ status: String?) {
    let first = side == .source ? seen.source : seen.target
    var found: Int?
    let isThere = pair.wait(side) { events in
      found = events.indices.dropFirst(first).first { index in
        events[index].name == event
          && (status == nil || events[index].data["status"]?.string == status)
      }
      return found != nil
    }
    guard isThere, let found else {
      note(side) { $0.missed("\(event) \(status ?? "")") }
      return
    }
    if side == .source { seen.source = found + 1 } else { seen.target = found + 1 }
  }

  private mutating func note(_ side: Script.Side, _ body: (inout Trace) -> Void) {
    if side == .source { body(&source) } else { body(&target) }
  }

  private func object(_ text: String) throws -> JSONObject {
    let json = text.replacing("MIGRATION", with: pair.migrationAddress)
      .replacing("STORAGE", with: pair.storagePath)
    return try Array(json.utf8).withUnsafeBytes { try JSONText.decode($0) }.object ?? [:]
  }

  private mutating func finish() -> [String] {
    source.told(pair.events(.source))
    target.told(pair.events(.target))
    let lines =
      source.replies.map { "source reply: \($0)" } + source.events.map { "source event: \($0)" }
      + target.replies.map { "target reply: \($0)" } + target.events.map { "target event: \($0)" }
    return lines.map {
      $0.replacing(pair.migrationAddress.dropFirst("unix:".count), with: "MIGRATION")
        .replacing(pair.storagePath, with: "STORAGE")
    }
  }
}
