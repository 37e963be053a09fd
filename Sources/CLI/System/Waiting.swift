import Glibc

/// Waits until one of the descriptors is ready, or the time is over (negative: without limit), or a
/// signal arrives; tells for each whether it is ready, errors and the other end's close included.
func waitForDescriptors(
  _ descriptors: [(descriptor: Int32, events: Int16)], timeoutMilliseconds: Int32
) -> [Bool] {
  var waited = descriptors.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
  let count = poll(&waited, nfds_t(waited.count), timeoutMilliseconds)
  return waited.map { count > 0 && $0.revents != 0 }
}
