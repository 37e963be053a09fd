/// Something worth telling about a migration.
enum MigrationNews: Equatable {
  /// The snapshot's phase is new.
  case entered
  /// The snapshot's figures are new.
  case progressed
  case warned(String)
  case logged(String)
  /// Nobody here answers the hand-over: the host program does.
  case handOverAwaited
  case handOverStarted(command: String)
  case handOverEnded(HandOverResult, how: String)
  /// Somebody interrupted, and the cancel is on its way.
  case cancelSent(signal: String)
  case cancelTooLate(signal: String, hint: String)
  /// The migration has ended, or this program leaves it.
  case ended
}

/// Text, and where it goes.
enum Utterance: Equatable {
  /// A line of the result, on standard output.
  case result(String)
  /// A line of standard output that may be left out when the reader is slow.
  case progress(String)
  /// A line for the person who watches, on standard error.
  case remark(String)
  /// The line that is drawn again in place on the terminal; empty takes it away.
  case status(String)
}

/// Puts news into words; values only, so that a test can read along.
protocol Narrator {
  /// What to say; the time is that since the migration was started.
  mutating func tell(
    _ news: MigrationNews, _ snapshot: MigrationSnapshot, elapsedMilliseconds: UInt64
  ) -> [Utterance]
}
