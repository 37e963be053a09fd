import CSwitchover
import MigrationEngine
import MigrationSession
import Runtime

/// What the setters of a recovery collect before its start.
struct RecoveryDraft {
  enum Monitor {
    case named(Endpoint)
    /// This side is not to be asked.
    case left
  }

  var options = RecoveryOptions()
  var journalPath: String?
  var sourceMonitor: Monitor?
  var targetMonitor: Monitor?
  var sourceOutOfBand: Endpoint?

  /// The whole of it, with the addresses of the journal where no setter named one.
  func configuration(_ journal: RecoveryJournal?) throws(CallFailure) -> RecoveryConfiguration {
    var configuration = RecoveryConfiguration()
    configuration.options = options
    configuration.sourceMonitor = monitor(sourceMonitor, journal?.record.source.monitor)
    configuration.targetMonitor = monitor(targetMonitor, journal?.record.target.monitor)
    configuration.sourceOutOfBand =
      sourceOutOfBand ?? monitor(nil, journal?.record.source.outOfBandMonitor)
    if journal == nil, configuration.sourceMonitor == nil, configuration.targetMonitor == nil {
      throw .invalid("neither a journal nor a monitor is set")
    }
    return configuration
  }

  private func monitor(_ set: Monitor?, _ journaled: String?) -> Endpoint? {
    switch set {
    case .named(let endpoint): return endpoint
    case .left: return nil
    case nil: break
    }
    guard let journaled, let endpoint = try? Endpoint(address: journaled) else { return nil }
    // A descriptor was its process's own.
    if case .descriptor = endpoint { return nil }
    return endpoint
  }
}

/// Behind `swo_recovery`.
final class RecoveryHandle {
  private weak var owner: Loop?
  /// What the setters collect until the start.
  var draft = RecoveryDraft()
  /// There from the start on.
  private(set) var recovery: Recovery?

  let rule = OwnedText()
  let text = OwnedText()
  let nextStep = OwnedText()
  private var words: [OwnedText] = []
  private var findings: [OwnedText] = []
  private var deeds: [OwnedText] = []

  init(in loop: Loop) { owner = loop }

  deinit { recovery?.close() }

  /// The loop, unless this is a fork or the loop is gone.
  func loop() throws(CallFailure) -> Loop {
    guard let owner else { throw .closed }
    if owner.isForeign { throw .forked }
    return owner
  }

  /// The recovery, once it is started.
  func started() throws(CallFailure) -> Recovery {
    _ = try loop()
    guard let recovery else { throw .state("the recovery is not started") }
    return recovery
  }

  func begin(_ recovery: Recovery) {
    self.recovery = recovery
    recovery.handle = self
  }

  enum List { case words, findings, deeds }

  /// An entry of a list of its end; nil where there is none.
  func entry(_ list: List, _ index: Int32) -> UnsafePointer<CChar>? {
    guard let conclusion = recovery?.conclusion else { return nil }
    switch list {
    case .words:
      let said = conclusion.words.map { "\($0)" }.filter { !$0.isEmpty }
      return Self.entry(index, of: said, &words)
    case .findings: return Self.entry(index, of: conclusion.findings, &findings)
    case .deeds: return Self.entry(index, of: conclusion.deeds, &deeds)
    }
  }

  private static func entry(
    _ index: Int32, of entries: [String], _ texts: inout [OwnedText]
  ) -> UnsafePointer<CChar>? {
    let index = Int(index)
    guard entries.indices.contains(index) else { return nil }
    while texts.count <= index { texts.append(OwnedText()) }
    return texts[index].pointer(to: entries[index])
  }
}

/// Behind `swo_journal`.
final class JournalHandle {
  let record: JournalRecord
  let name = OwnedText()
  let sourceMonitor = OwnedText()
  let targetMonitor = OwnedText()
  let text = OwnedText()
  let nextStep = OwnedText()

  init(_ record: JournalRecord) { self.record = record }
}

extension CallFailure {
  init(_ error: RecoveryJournalError) {
    switch error {
    case .file(.held): self.init(.SWO_E_BUSY, error.description)
    case .file: self.init(.SWO_E_SYSTEM, error.description)
    case .record: self.init(.SWO_E_PROTOCOL, error.description)
    }
  }
}

/// Opens and reads a journal, which stays locked as long as the result lives.
func journal(at path: String) throws(CallFailure) -> RecoveryJournal {
  do throws(RecoveryJournalError) {
    return try RecoveryJournal(path: path)
  } catch {
    throw CallFailure(error)
  }
}

/// An absolute path of a file.
func absolutePath(
  _ pointer: UnsafePointer<CChar>?, _ name: StaticString
) throws(CallFailure) -> String {
  let path = try nonEmpty(pointer, name)
  guard path.hasPrefix("/"), !path.hasSuffix("/") else {
    throw .invalid("\(name) '\(path)' is no absolute path of a file")
  }
  return path
}
