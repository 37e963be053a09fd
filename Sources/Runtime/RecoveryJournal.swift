import MigrationEngine
import MigrationSession
import Platform

/// Why a journal cannot be recovered from.
public enum RecoveryJournalError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A live process works with it, or the system refused.
  case file(JournalError)
  /// It is no journal, or not a whole one.
  case record(JournalRecordError)

  public var description: String {
    switch self {
    case .file(.held): "a live process works with this journal: its migration is not abandoned"
    case .file(let error): error.description
    case .record(.empty):
      "the journal is empty: its migration ended before it had changed anything"
    case .record(.foreign): "this is no journal of a migration"
    case .record(.newer(let version)):
      "the journal is of version \(version), newer than \(JournalRecord.version), which this program "
        + "knows"
    case .record(.damaged): "the journal is damaged: cut short, or altered"
    }
  }
}

/// The journal of a migration whose manager has gone: locked, read, and trusted by its checksum.
public struct RecoveryJournal {
  public let record: JournalRecord
  let file: JournalFile

  public init(path: String) throws(RecoveryJournalError) {
    let bytes: [UInt8]
    do throws(JournalError) {
      file = try JournalFile(path: path, create: false)
      bytes = try file.read(limit: JournalRecord.maximumBytes)
    } catch {
      throw .file(error)
    }
    do throws(JournalRecordError) {
      record = try JournalRecord.decode(bytes)
    } catch {
      throw .record(error)
    }
  }

  /// Whether the kernel says that the side's process is gone. Another process under its number is no
  /// proof, and neither is a number from another machine, or from before the last boot.
  public func processHasEnded(_ side: Side) -> Bool {
    let qemu = side == .source ? record.source : record.target
    guard let process = qemu.process, let machine = record.machine,
      machine == MachineIdentity.current
    else { return false }
    let identity = ProcessIdentity(processIdentifier: process.pid, startTime: process.startTime)
    return identity.liveness() == .exited
  }
}
