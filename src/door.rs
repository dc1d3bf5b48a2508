//! The broker as the clients' transport: the same requests, in process, without a socket and without a copy.

use futures::future::BoxFuture;
use sunseo_broker::BrokerHandle;
use sunseo_client::Transport;
use sunseo_proto::error::Result;
use sunseo_proto::v1;

/// A broker in this process.
#[derive(Clone, Debug)]
pub struct Door(pub BrokerHandle);

macro_rules! forward {
    ($($name:ident: $request:ident -> $response:ident;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            request: v1::$request,
        ) -> BoxFuture<'async_trait, Result<v1::$response>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(self.0.$name(request))
        }
    )*};
}

impl Transport for Door {
    fn produce(&self, request: v1::ProduceRequest) -> BoxFuture<'static, Result<v1::ProduceResponse>> {
        self.0.produce(request)
    }

    fn fetch(&self, request: v1::FetchRequest) -> BoxFuture<'static, Result<v1::FetchResponse>> {
        self.0.fetch(request)
    }

    sunseo_client::each_request!(forward);
}
