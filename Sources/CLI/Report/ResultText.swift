/// What a person is told at the end.
enum ResultText {
  /// The summary of a success on standard output, that of anything else on standard error, and the
  /// ledger on standard output.
  static func utterances(
    _ snapshot: MigrationSnapshot, _ resultStyle: Style, _ errorStyle: Style,
    _ loudness: PersonNarrator.Loudness
  ) -> [Utterance] {
    guard snapshot.isCompleted else {
      return [failure(snapshot, errorStyle)] + ledger(snapshot, resultStyle)
    }
    guard loudness > .quiet else { return [] }
    // On standard error the program's name tells who speaks; here it is clear.
    let prefix = "switchover: "
    let summary =
      snapshot.summary.hasPrefix(prefix)
      ? snapshot.summary.dropFirst(prefix.count) : snapshot.summary[...]
    let line = "\(resultStyle.paint(resultStyle.tick, .green)) \(summary)"
    return [.result(line)] + ledger(snapshot, resultStyle)
  }

  /// What happened, who owns the guest, what to do next: the library's line has it all.
  static func failure(_ snapshot: MigrationSnapshot, _ style: Style) -> Utterance {
    .remark("\(style.paint(style.cross, .red)) \(snapshot.summary)")
  }

  private static func ledger(_ snapshot: MigrationSnapshot, _ style: Style) -> [Utterance] {
    let lines = LedgerTable.lines(snapshot, style)
    return lines.isEmpty ? [] : ([""] + lines).map(Utterance.result)
  }
}
