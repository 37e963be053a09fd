import CSwitchover
import Glibc

/// The library's loop: what belongs to it, its descriptor, its events.
final class Loop {
  /// Something that happened in the loop.
  enum Event: Equatable {
    /// Which one was entered; it may be over when the event is taken.
    case phase(Word)
    case progress
    case handOverWanted
    case warning(String)
    case log(String)
    case finished
    case monitorEvent(name: String, data: String, microseconds: Int64)
    case monitorClosed(code: Int32, text: String)
    /// A kind that this program has no use for.
    case other
  }

  let handle: OpaquePointer

  /// - Parameter ssh: how ssh addresses are reached.
  init(ssh: SSHPlan = SSHPlan()) throws {
    var loop: OpaquePointer?
    try LibraryError.check(swo_loop_new(&loop))
    guard let loop else { throw LibraryError(code: swo_code.SWO_E_INTERNAL.rawValue, text: "") }
    handle = loop
    try apply(ssh)
  }

  deinit {
    swo_loop_free(handle)
  }

  private func apply(_ ssh: SSHPlan) throws {
    let words = ssh.command.map { strdup($0) }
    defer { for word in words { free(word) } }
    var list = words.map { UnsafePointer($0) }
    list.append(nil)
    try LibraryError.check(
      swo_loop_set_ssh(handle, ssh.carrier.libraryValue.number, list, ssh.loginMilliseconds))
  }

  /// Readable exactly while there is something to dispatch or an event to take.
  var descriptor: Int32 { swo_loop_fd(handle) }

  /// Does what there is to do without waiting.
  func dispatch() throws {
    do {
      try LibraryError.check(swo_loop_dispatch(handle, 0))
    } catch let error as LibraryError where error.has(.SWO_E_INTERRUPTED) {
      // The descriptor stays readable, so the caller comes again.
    }
  }

  /// Takes the oldest event; nil if none waits.
  func nextEvent() throws -> Event? {
    var event: OpaquePointer?
    guard try LibraryError.check(swo_loop_next_event(handle, &event)) > 0, let event else {
      return nil
    }
    defer { swo_event_free(event) }
    return switch swo_event_kind_of(event) {
    case swo_event_kind.SWO_EVENT_PHASE.number: .phase(.phase(swo_event_phase(event)))
    case swo_event_kind.SWO_EVENT_PROGRESS.number: .progress
    case swo_event_kind.SWO_EVENT_HAND_OVER_WANTED.number: .handOverWanted
    case swo_event_kind.SWO_EVENT_WARNING.number: .warning(libraryText(swo_event_text(event)))
    case swo_event_kind.SWO_EVENT_LOG.number: .log(libraryText(swo_event_text(event)))
    case swo_event_kind.SWO_EVENT_FINISHED.number: .finished
    case swo_event_kind.SWO_EVENT_QMP_EVENT.number:
      .monitorEvent(
        name: libraryText(swo_event_name(event)), data: libraryText(swo_event_json(event)),
        microseconds: swo_event_time_us(event))
    case swo_event_kind.SWO_EVENT_QMP_CLOSED.number:
      .monitorClosed(code: swo_event_code(event), text: libraryText(swo_event_text(event)))
    default: .other
    }
  }
}
