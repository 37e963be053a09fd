import CSwitchover

/// Tells a person: one line drawn in place on a terminal, otherwise plain lines with their times.
struct PersonNarrator: Narrator {
  /// What is said at all.
  enum Loudness: Comparable {
    case quiet
    case normal
    case verbose
  }

  /// Between two plain progress lines, milliseconds.
  static let progressInterval: UInt64 = 1000

  /// What standard error can show.
  var style = Style()
  /// What standard output can show.
  var resultStyle = Style()
  var loudness = Loudness.normal
  private var lastProgress: UInt64?

  init(style: Style, resultStyle: Style, loudness: Loudness) {
    self.style = style
    self.resultStyle = resultStyle
    self.loudness = loudness
  }

  mutating func tell(
    _ news: MigrationNews, _ snapshot: MigrationSnapshot, elapsedMilliseconds: UInt64
  ) -> [Utterance] {
    func remark(_ text: String, unlessQuiet: Bool = true) -> [Utterance] {
      guard loudness > .quiet || !unlessQuiet else { return [] }
      return [.remark(style.isTerminal ? text : Self.stamp(elapsedMilliseconds) + text)]
    }
    switch news {
    case .entered:
      if snapshot.isIn(.SWO_PHASE_ENDED) { return [] }
      return style.isTerminal ? status(snapshot) : remark(snapshot.phase.name)
    case .progressed:
      if style.isTerminal { return status(snapshot) }
      guard isDue(snapshot, elapsedMilliseconds) else { return [] }
      return remark(Self.progress(snapshot, style))
    case .warned(let text):
      return remark(style.paint("warning: ", .yellow) + text)
    case .logged(let text):
      return loudness == .verbose ? remark(style.paint(text, .faint)) : []
    case .handOverAwaited:
      return remark(
        "the target has the guest, loaded and paused, and nobody owns it: resume it there now "
          + "(Ctrl-C stops watching)", unlessQuiet: false)
    case .handOverStarted(let command):
      return remark("hand-over: \(command)")
    case .handOverEnded(let result, let how):
      return remark("hand-over \(result.rawValue): \(how)", unlessQuiet: result == .done)
    case .cancelSent(let signal):
      return remark("\(signal): cancelling; the guest stays on the source")
    case .cancelTooLate(let signal, let hint):
      return remark("\(signal): too late to cancel\(hint)", unlessQuiet: false)
    case .ended:
      return status(nil) + ResultText.utterances(snapshot, resultStyle, style, loudness)
    }
  }

  private func status(_ snapshot: MigrationSnapshot?) -> [Utterance] {
    guard style.isTerminal, loudness > .quiet else { return [] }
    return [.status(snapshot.map { ProgressLine.text($0, style) } ?? "")]
  }

  private mutating func isDue(_ snapshot: MigrationSnapshot, _ now: UInt64) -> Bool {
    guard ProgressLine.fractionDone(snapshot) != nil else { return false }
    if let last = lastProgress, now < last + Self.progressInterval { return false }
    lastProgress = now
    return true
  }

  private static func progress(_ snapshot: MigrationSnapshot, _ style: Style) -> String {
    let done = ProgressLine.fractionDone(snapshot).map { ["\(Int($0 * 100)) %"] } ?? []
    return (done + ProgressLine.facts(snapshot, style)).joined(separator: ", ")
  }

  /// The time since the start, such as "   1.204 s  ".
  private static func stamp(_ milliseconds: UInt64) -> String {
    Quantity.fixed(Double(milliseconds) / 1000, decimals: 3).rightAligned(to: 8) + " s  "
  }
}
