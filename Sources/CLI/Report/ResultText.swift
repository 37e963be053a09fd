import CSwitchover

/// What a person is told at the end.
enum ResultText {
  /// The summary and the ledger of a success on standard output, a failure on standard error.
  static func utterances(
    _ snapshot: MigrationSnapshot, _ resultStyle: Style, _ errorStyle: Style,
    _ loudness: PersonNarrator.Loudness
  ) -> [Utterance] {
    guard snapshot.isCompleted else {
      return failure(snapshot, errorStyle).map(Utterance.remark) + ledger(snapshot, resultStyle)
    }
    guard loudness > .quiet else { return [] }
    var lines = ["\(resultStyle.paint(resultStyle.tick, .green)) \(summary(snapshot))"]
    if !snapshot.nextStep.isEmpty, !snapshot.summary.contains(snapshot.nextStep) {
      lines.append("next: \(snapshot.nextStep)")
    }
    return lines.map(Utterance.result) + ledger(snapshot, resultStyle)
  }

  /// What happened, who owns the guest, what to do next.
  static func failure(_ snapshot: MigrationSnapshot, _ style: Style) -> [String] {
    var lines = ["\(style.paint(style.cross, .red)) switchover: \(summary(snapshot))"]
    if !snapshot.nextStep.isEmpty, !snapshot.summary.contains(snapshot.nextStep) {
      lines.append("next: \(snapshot.nextStep)")
    }
    return lines
  }

  /// The library's own line, or before its end one of the same shape.
  static func summary(_ snapshot: MigrationSnapshot) -> String {
    if snapshot.hasEnded, !snapshot.summary.isEmpty { return snapshot.summary }
    return "left in phase '\(snapshot.phase.name)'; owner: \(snapshot.owner.name), "
      + "guest \(snapshot.guest.name)"
  }

  private static func ledger(_ snapshot: MigrationSnapshot, _ style: Style) -> [Utterance] {
    let lines = LedgerTable.lines(snapshot, style)
    return lines.isEmpty ? [] : ([""] + lines).map(Utterance.result)
  }
}
