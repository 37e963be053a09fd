/// Tells a person what a check has found.
struct FindingsNarrator: Narrator {
  var style: Style
  var resultStyle: Style
  var isQuiet = false
  var isVerbose = false

  mutating func tell(
    _ news: MigrationNews, _ snapshot: MigrationSnapshot, elapsedMilliseconds: UInt64
  ) -> [Utterance] {
    switch news {
    case .warned(let text):
      return isQuiet ? [] : [.result("\(resultStyle.paint("!", .yellow)) \(text)")]
    case .logged(let text):
      return isVerbose ? [.result("  \(text)")] : []
    case .cancelSent(let signal):
      return [.remark("\(signal): the check is given up")]
    case .ended where snapshot.isCompleted:
      if isQuiet { return [] }
      let mark = resultStyle.paint(resultStyle.tick, .green)
      return [.result("\(mark) nothing stands against this migration")]
    case .ended:
      return [ResultText.failure(snapshot, style)]
    default:
      return []
    }
  }
}
