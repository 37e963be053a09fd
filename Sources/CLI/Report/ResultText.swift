import CSwitchover

/// What a person is told at the end.
enum ResultText {
  /// The summary of a success on standard output, that of anything else on standard error, and the
  /// ledger on standard output.
  static func utterances(
    _ snapshot: MigrationSnapshot, _ resultStyle: Style, _ errorStyle: Style,
    _ loudness: PersonNarrator.Loudness
  ) -> [Utterance] {
    guard snapshot.isCompleted else {
      return [failure(snapshot, errorStyle)] + recovery(snapshot) + ledger(snapshot, resultStyle)
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

  /// Where the journal lies, which whoever takes over needs; a cancel has left nothing to do.
  private static func recovery(_ snapshot: MigrationSnapshot) -> [Utterance] {
    guard let journal = snapshot.journal, snapshot.end.code != swo_end.SWO_END_CANCELLED.number
    else { return [] }
    guard snapshot.exitStatus != .sourceOwns else { return [.remark("journal: \(journal)")] }
    return [.remark("next: switchover recover \(shellWord(journal))")]
  }

  private static func ledger(_ snapshot: MigrationSnapshot, _ style: Style) -> [Utterance] {
    let lines = LedgerTable.lines(snapshot, style)
    return lines.isEmpty ? [] : ([""] + lines).map(Utterance.result)
  }
}
