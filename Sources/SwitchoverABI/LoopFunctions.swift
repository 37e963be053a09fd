// The names are those of the header.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CSwitchover
import Runtime

@c @implementation
public func swo_loop_new(_ loop_out: UnsafeMutablePointer<OpaquePointer?>?) -> Int32 {
  answer("swo_loop_new") { () throws(CallFailure) in
    guard let loop_out else { throw .invalid("loop_out is NULL") }
    loop_out.pointee = nil
    do throws(SystemError) {
      loop_out.pointee = handle(owning: LoopHandle(try Loop()))
    } catch {
      throw CallFailure(error)
    }
    return 0
  }
}

@c @implementation
public func swo_loop_free(_ loop: OpaquePointer?) { release(loop, LoopHandle.self) }

@c @implementation
public func swo_loop_fd(_ loop: OpaquePointer?) -> Int32 {
  answer("swo_loop_fd") { () throws(CallFailure) in try usableLoop(loop).descriptor }
}

@c @implementation
public func swo_loop_dispatch(_ loop: OpaquePointer?, _ timeout_ms: Int32) -> Int32 {
  answer("swo_loop_dispatch") { () throws(CallFailure) in
    let loop = try usableLoop(loop)
    let count = try onLoop { () throws(LoopError) in
      try loop.dispatch(timeoutMilliseconds: timeout_ms)
    }
    return Int32(clamping: count)
  }
}

@c @implementation
public func swo_loop_next_event(
  _ loop: OpaquePointer?, _ event_out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  answer("swo_loop_next_event") { () throws(CallFailure) in
    guard let event_out else { throw .invalid("event_out is NULL") }
    event_out.pointee = nil
    let loop = try usableLoop(loop)
    guard let event = try onLoop({ () throws(LoopError) in try loop.nextEvent() }) else {
      return 0
    }
    event_out.pointee = handle(owning: EventHandle(event))
    return 1
  }
}

/// The loop behind a handle, unless this is a fork.
func usableLoop(_ handle: OpaquePointer?) throws(CallFailure) -> Loop {
  let loop = try object(handle, LoopHandle.self).loop
  if loop.isForeign { throw .forked }
  return loop
}
