import CSwitchover

/// What a journal tells without any QEMU being asked.
struct JournalSummary: Equatable {
  enum State: Equatable {
    /// A live process works with it.
    case held
    /// Its migration was abandoned, or ended without one owner.
    case open(outcome: String?)
    case settled(owner: String)
    /// It cannot be read; the text says why.
    case unusable(String)
  }

  var path: String
  var name = ""
  var source = ""
  var target = ""
  /// The processes on this machine, 0 where the journal names none.
  var sourceProcess: Int32 = 0
  var targetProcess: Int32 = 0
  var nextStep = ""
  var state: State

  /// Reads a journal, and lets go of it.
  init(path: String) {
    self.path = path
    var handle: OpaquePointer?
    do {
      try LibraryError.check(swo_journal_read(path, &handle))
    } catch let error as LibraryError {
      state = error.has(.SWO_E_BUSY) ? .held : .unusable(error.text)
      return
    } catch {
      state = .unusable("it cannot be read")
      return
    }
    defer { swo_journal_free(handle) }
    let owner = libraryText(swo_owner_name(swo_journal_owner(handle)))
    if swo_journal_is_settled(handle) == 1 {
      state = .settled(owner: owner)
    } else if swo_journal_end(handle) == swo_end.SWO_END_NONE.number {
      state = .open(outcome: nil)
    } else {
      let text = libraryText(swo_journal_text(handle))
      state = .open(outcome: "owner \(owner)" + (text.isEmpty ? "" : ": \(text)"))
    }
    name = libraryText(swo_journal_name(handle))
    source = libraryText(swo_journal_monitor(handle, Side.source.libraryValue.number))
    target = libraryText(swo_journal_monitor(handle, Side.target.libraryValue.number))
    sourceProcess = max(0, swo_journal_process(handle, Side.source.libraryValue.number))
    targetProcess = max(0, swo_journal_process(handle, Side.target.libraryValue.number))
    nextStep = libraryText(swo_journal_next_step(handle))
  }

  func monitor(_ side: Side) -> String { side == .source ? source : target }
  func process(_ side: Side) -> Int32 { side == .source ? sourceProcess : targetProcess }
}
