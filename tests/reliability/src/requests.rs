//! The requests that a transport between a client and the node passes on unchanged: all but produce and fetch.

/// A method of a `Transport` for each of them, which hands its request to `self.pass` with what to call.
macro_rules! pass_on {
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: sunseo_proto::v1::$request,
        ) -> futures::future::BoxFuture<'async_trait, sunseo_client::Result<sunseo_proto::v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            self.pass(request, |to, request| async move { to.$name(request).await }.boxed())
        }
    )*};
}

pub(crate) use pass_on;
